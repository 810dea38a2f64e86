-- Take, renew or end a hold in each bucket given.
-- KEYS meta, for each bucket   ARGV now elapsed asker action lease-s epoch
-- `epoch` names a bucket that is made here: a store that lost its data has another one. `line` are
-- the replication ids that a bucket was written under, the newest last: each later one is that of a
-- replica which was promoted; where it is anything else, a new line begins.
local LINE_MAX = 32
local told = redis.call('INFO', 'replication')
local id, before = string.match(told, 'master_replid:(%x+)'), string.match(told, 'master_replid2:(%x+)')

local function extend_line(meta)
  local ids = {}
  for each in string.gmatch(redis.call('HGET', meta, 'line') or '', '%x+') do ids[#ids + 1] = each end
  local newest = ids[#ids]
  if newest == id then return end
  if newest ~= before then ids = {} end
  ids[#ids + 1] = id
  redis.call('HSET', meta, 'line', table.concat(ids, ' ', math.max(1, #ids - LINE_MAX + 1)))
end

local replies = {}
for index = 1, #KEYS do
  local meta = KEYS[index]
  local bucket = open(meta, ARGV[1], ARGV[2], ARGV[3], index)
  local field, said = 'u:' .. bucket.holder, 'ok'
  if bucket.epoch == '' and ARGV[6] ~= '' and not bucket.behind then
    bucket.epoch = ARGV[6]
    redis.call('HSET', meta, 'epoch', ARGV[6])
  end
  if bucket.behind then
    said = 'forgot'
  elseif ARGV[4] == 'take' and redis.call('HEXISTS', meta, 'moving') == 1 then
    said = 'moving'
  elseif ARGV[4] == 'renew' and not alive(bucket) then
    said = 'lapsed'
  elseif ARGV[4] == 'end' then
    if bucket.till then redis.call('HSET', meta, field, '0') end
    changed(bucket)
  else
    extend_line(meta)
    bucket.till = bucket.now + tonumber(ARGV[5])
    redis.call('HSET', meta, field, exact(bucket.till))
    changed(bucket)
  end
  replies[#replies + 1] = {head(bucket), said}
end
return replies
