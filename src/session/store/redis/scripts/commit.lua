-- Writes everything if all is as it was read, and nothing otherwise. KEYS: users, revocations, expiry, feed, meta, rows…
-- ARGV: the last moment to do it, how long the feed is kept (both in ms), then words: see below.
-- Returns 1 done, 0 something has changed, 2 too late.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A server that was stopped does what waits for it when it goes on. Who asked has given up by then and asks again: a
-- rotation made behind its back would make the next try look like a theft.
if now > tonumber(ARGV[1]) then
    return 2
end
local at = 2
local function word()
    at = at + 1
    return ARGV[at]
end
local function row()
    return KEYS[5 + tonumber(word())]
end
-- No row and no record is ever empty: an empty word stands for none.
for _ = 1, tonumber(word()) do
    local kind, have = word(), nil
    if kind == 'row' then
        have = redis.call('GET', row()) or ''
    elseif kind == 'revocation' then
        have = redis.call('HGET', KEYS[2], word()) or ''
    else
        have = table.concat(redis.call('ZRANGEBYLEX', KEYS[1], word(), word()))
    end
    if have ~= word() then
        return 0
    end
end
for _ = 1, tonumber(word()) do
    local kind = word()
    if kind == 'put' then
        local key, value, expires = row(), word(), word()
        if expires == '0' then
            redis.call('SET', key, value)
        else
            redis.call('SET', key, value, 'PXAT', expires)
        end
    elseif kind == 'delete' then
        redis.call('DEL', row())
    elseif kind == 'index' then
        redis.call('ZADD', KEYS[1], 0, word())
    elseif kind == 'unindex' then
        redis.call('ZREM', KEYS[1], word())
    elseif kind == 'mark' then
        -- Something to wait for until the replicas have it, and with it all that was written before.
        redis.call('HINCRBY', KEYS[5], 'marks', 1)
    else
        local key, record, expires = word(), word(), word()
        redis.call('HSET', KEYS[2], key, record)
        redis.call('ZADD', KEYS[3], expires, key)
        if kind == 'revoke' then
            redis.call('XADD', KEYS[4], 'MINID', '~', string.format('%.0f', now - tonumber(ARGV[2])), '*', 'k', key, 'r', record)
        end
    end
end
return 1
