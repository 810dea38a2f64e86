-- KEYS meta age dead, for each bucket
local replies = {}
for index = 1, #KEYS, 3 do
  replies[#replies + 1] = {
    redis.call('HMGET', KEYS[index], 'made', 'removed', 'disputed',
      's1', 's2', 's3', 's4', 's5', 's6', 's7'),
    redis.call('ZRANGE', KEYS[index + 1], 0, 0, 'WITHSCORES')[2] or '',
    redis.call('ZRANGE', KEYS[index + 2], 0, 0, 'WITHSCORES')[2] or '',
  }
end
return replies
