-- Forgets revocations that no token needs. KEYS: revocations, expiry. ARGV: now in ms, how many at most.
-- A gateway whose clock is ahead would forget for all of them, so the server's clock counts, too.
local time = redis.call('TIME')
local now = math.min(tonumber(ARGV[1]), time[1] * 1000 + math.floor(time[2] / 1000))
local keys = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. string.format('%.0f', now), 'LIMIT', 0, ARGV[2])
for _, key in ipairs(keys) do
    redis.call('HDEL', KEYS[1], key)
    redis.call('ZREM', KEYS[2], key)
end
return #keys
