-- KEYS table log meta leases lease:<name> owned:<name>
-- ARGV name, ttl (ms, 0: never expires), registrar, expected seq, then field and record in turn
-- Reply {seq, 1 if Redis holds less than this lease wrote, version, changes logged}

local name, ttl, registrar, expected = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local now = clock()
local epoch, version = open_table()
local seq, behind = standing(name, expected, epoch)
local new_lease = redis.call('EXISTS', KEYS[5]) == 0
extend(name, ttl, registrar, now)

local changes, written = {}, 0
for i = 5, #ARGV, 2 do
  local field, record = ARGV[i], ARGV[i + 1]
  local old = redis.call('HGET', TABLE, field)
  if old ~= name .. ' ' .. record then
    local space = old and string.find(old, ' ', 1, true)
    if space and not belongs(old, name) then
      redis.call('SREM', owned_key(string.sub(old, 1, space - 1)), field)
    end
    redis.call('HSET', TABLE, field, name .. ' ' .. record)
    redis.call('SADD', KEYS[6], field)
    written = written + 1
    if not space or string.sub(old, space + 1) ~= record then
      changes[#changes + 1] = '+' .. field
      changes[#changes + 1] = record
    end
  end
end

-- A lease that is behind stays behind until its registrar replaces everything, whatever it writes meanwhile.
if written > 0 and not behind then
  seq = seq + 1
end
if new_lease or (written > 0 and not behind) then
  redis.call('HSET', KEYS[5], 'seq', whole(seq))
end
if new_lease then
  redis.call('HSET', KEYS[5], 'epoch', epoch)
end
return {seq, behind and 1 or 0, append(version, changes), #changes / 2}
