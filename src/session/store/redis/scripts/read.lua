-- Reads at one moment. KEYS: users, revocations, rows…
-- ARGV: how many revocations, their keys…, then from and to of each range of users…
-- Returns the time in milliseconds, then a list of each kind.
local time = redis.call('TIME')
local rows, revocations, users = {}, {}, {}
for i = 3, #KEYS do
    rows[#rows + 1] = redis.call('GET', KEYS[i])
end
local count = tonumber(ARGV[1])
for i = 2, count + 1 do
    revocations[#revocations + 1] = redis.call('HGET', KEYS[2], ARGV[i])
end
for i = count + 2, #ARGV, 2 do
    users[#users + 1] = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[i], ARGV[i + 1])
end
return { time[1] * 1000 + math.floor(time[2] / 1000), rows, revocations, users }
