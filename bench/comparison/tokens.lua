-- wrk sends a request with each of the tokens of a file in turn: made before the load begins, so that sending costs the
-- generator little. Arguments: the file, "once" or "again" after the last token, and the expected body where every
-- reply's is compared.
local requests, sent, once = {}, 0, false
local expected

function init(arguments)
    once = arguments[2] == "once"
    local routes = tonumber(arguments[3])
    expected = arguments[4]
    for token in io.lines(arguments[1]) do
        -- A prime step: neighbours in time are none in the table.
        local path = routes > 0 and string.format("/service-%05d/1", #requests * 7919 % routes) or nil
        requests[#requests + 1] = wrk.format("GET", path, { ["Authorization"] = "Bearer " .. token })
    end
    if not expected then response = nil end
end

function request()
    sent = sent + 1
    if sent > #requests then
        if once then wrk.thread:stop() end
        sent = 1
    end
    return requests[sent]
end

wrong = 0

function response(status, headers, body)
    if body ~= expected then wrong = wrong + 1 end
end

local threads = {}

function setup(thread) threads[#threads + 1] = thread end

function done(summary, latency)
    local bodies = 0
    for _, thread in ipairs(threads) do bodies = bodies + (thread:get("wrong") or 0) end
    local errors = summary.errors
    io.stdout:write(string.format(
        '\n{"requests":%d,"us":%d,"bytes":%d,"refused":%d,"broken":%d,"wrong_bodies":%d,"p50_us":%d,"p99_us":%d}\n',
        summary.requests, summary.duration, summary.bytes, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout, bodies,
        latency:percentile(50), latency:percentile(99)))
end
