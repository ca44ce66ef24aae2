-- A beat of one gateway. KEYS: feed, meta. ARGV: how long the feed is kept in ms, the gateway, the beat, a random name,
-- how many entries are kept at most.
-- Returns the name of what is stored here: another one than before tells that everything was lost in between.
local name = redis.call('HGET', KEYS[2], 'name')
if not name then
    name = ARGV[4]
    redis.call('HSET', KEYS[2], 'name', name)
end
local time = redis.call('TIME')
local oldest = string.format('%.0f', time[1] * 1000 - tonumber(ARGV[1]))
redis.call('XADD', KEYS[1], 'MINID', '~', oldest, '*', 'g', ARGV[2], 'b', ARGV[3])
-- After the server's clock was ahead no entry looks old until it gets there again.
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[5])
return name
