-- KEYS table log meta leases lease:<name> owned:<name>
-- ARGV name, expected seq, then fields
-- Reply {seq, 1 if Redis holds less than this lease wrote, version, how many left}

local name, expected = ARGV[1], tonumber(ARGV[2])
clock()
local epoch, version = open_table()
local seq, behind = standing(name, expected, epoch)

local changes, left = {}, 0
for i = 3, #ARGV do
  local field = ARGV[i]
  local value = redis.call('HGET', TABLE, field)
  local owned = value and belongs(value, name)
  if owned then
    redis.call('HDEL', TABLE, field)
    redis.call('SREM', KEYS[6], field)
    left = left + 1
  end
  -- Routers may still serve an endpoint that Redis has forgotten: its registrar's goodbye must reach them.
  if owned or (behind and not value) then
    changes[#changes + 1] = '-' .. field
    changes[#changes + 1] = ''
  end
end

if left > 0 and not behind then
  seq = seq + 1
  redis.call('HSET', KEYS[5], 'seq', whole(seq))
end
return {seq, behind and 1 or 0, append(version, changes), left}
