-- Moves the last request of rows forward. KEYS: rows… ARGV: ms of idleness after which a row may go, or 0, ms from
-- creation after which it may go, or 0, then for each row the time as 8 bytes, big-endian.
-- Returns for each row the part it is really in, or -1.
local function later(a, b)
    for i = 1, 8 do
        local x, y = string.byte(a, i), string.byte(b, i)
        if x ~= y then
            return x > y
        end
    end
    return false
end
local idle, life, elsewhere = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for i = 1, #KEYS do
    local row, seen = redis.call('GETRANGE', KEYS[i], 0, 28), ARGV[2 + i]
    elsewhere[i] = -1
    if #row == 2 then
        elsewhere[i] = string.byte(row, 2)
    elseif #row == 29 and later(seen, string.sub(row, 2, 9)) then
        redis.call('SETRANGE', KEYS[i], 1, seen)
        if idle > 0 then
            local at = struct.unpack('>I8', seen) + idle
            if life > 0 then
                at = math.min(at, struct.unpack('>I8', string.sub(row, 22, 29)) + life)
            end
            redis.call('PEXPIREAT', KEYS[i], string.format('%.0f', at))
        end
    end
end
return elsewhere
