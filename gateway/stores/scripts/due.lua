-- What is to be taken: orders of lapsed holds, the oldest first, then what nobody holds and is due.
-- KEYS meta held due, for each bucket   ARGV now elapsed asker limit
-- Holds that lapsed and hold nothing are forgotten, but the caller's own: it would take its being
-- gone for a sign that the store forgot.
local replies = {}
local limit = tonumber(ARGV[4])
for index = 1, #KEYS, 3 do
  local meta, held = KEYS[index], KEYS[index + 1]
  local bucket = open(meta, ARGV[1], ARGV[2], ARGV[3], (index + 2) / 3)
  local lapsed, some, orphans = {}, false, {}
  local fields = redis.call('HGETALL', meta)
  local mine = false
  for at = 1, #fields, 2 do
    local name = string.match(fields[at], '^u:(.*)$')
    if name and tonumber(fields[at + 1]) <= bucket.now then
      lapsed[name] = 0
      some = true
    elseif name == bucket.holder then
      mine = true
    end
  end
  if some and not bucket.behind then
    local all = redis.call('HGETALL', held)
    for at = 1, #all, 2 do
      local holder = all[at + 1]
      if lapsed[holder] then
        lapsed[holder] = lapsed[holder] + 1
        orphans[#orphans + 1] = all[at] .. ':' .. holder
      end
    end
    table.sort(orphans)
    for at = #orphans, limit + 1, -1 do orphans[at] = nil end
    for holder, count in pairs(lapsed) do
      if count == 0 and holder ~= bucket.holder then
        redis.call('HDEL', meta, 'u:' .. holder, 'n:' .. holder, 'w:' .. holder)
      end
    end
  end
  local ripe = redis.call('ZRANGEBYSCORE', KEYS[index + 2], '-inf', exact(bucket.now),
    'WITHSCORES', 'LIMIT', 0, limit)
  local said = bucket.behind and 'forgot' or mine and 'ok' or 'lapsed'
  replies[#replies + 1] = {head(bucket), said, orphans, ripe}
end
return replies
