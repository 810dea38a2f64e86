-- The first members of each sorted set, with their scores.   KEYS sets   ARGV from to limit
local replies = {}
for index = 1, #KEYS do
  replies[index] = redis.call('ZRANGEBYSCORE', KEYS[index], ARGV[1], ARGV[2],
    'WITHSCORES', 'LIMIT', 0, ARGV[3])
end
return replies
