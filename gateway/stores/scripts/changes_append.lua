-- Append marks to the log of changes (valkey_changes.py). KEYS: the log, its counter. ARGV: how many
-- to keep, a name that no other append has, the marks.

local seq = 0
for at = 3, #ARGV do
  seq = redis.call('INCR', KEYS[2])
  redis.call('ZADD', KEYS[1], seq, string.format('%d', seq) .. '\n' .. ARGV[2] .. '\n' .. ARGV[at])
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
return seq
