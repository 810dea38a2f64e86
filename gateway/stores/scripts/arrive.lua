-- Begin or end a move into this ledger: no gateway holds a bucket while it lasts.
-- KEYS meta, for each bucket   ARGV begin | end, move id, epoch, removed before, ledger time
-- Says of each bucket: ok | begun (this move, before) | taken (there is a ledger already, or another
-- move) | ended (this move has ended there).
local replies = {}
for index = 1, #KEYS do
  local kept = redis.call('HMGET', KEYS[index], 'epoch', 'moving', 'time')
  replies[index] = 'ok'
  if ARGV[1] == 'begin' then
    if kept[1] and kept[1] ~= ARGV[3] then
      replies[index] = 'taken'
    elseif kept[1] and not kept[2] then
      replies[index] = 'ended'
    elseif kept[1] then
      replies[index] = 'begun'
    else
      redis.call('HSET', KEYS[index], 'epoch', ARGV[3], 'moving', ARGV[2])
    end
  elseif kept[2] == ARGV[2] then
    redis.call('HINCRBY', KEYS[index], 'made', ARGV[4])
    redis.call('HINCRBY', KEYS[index], 'removed', ARGV[4])
    if tonumber(kept[3] or 0) < tonumber(ARGV[5]) then
      redis.call('HSET', KEYS[index], 'time', ARGV[5])
    end
    redis.call('HDEL', KEYS[index], 'moving')
  end
end
return replies
