-- KEYS table log meta leases lease:<name> owned:<name>
-- ARGV name, ttl (ms, 0: never expires), registrar, expected seq, 1 to adopt (the registrar now writes everything again)
-- Reply {1 if Redis holds all that this lease wrote, seq, version}

local name, ttl, registrar, expected = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local now = clock()
local epoch, version = open_table()
local seq, behind = standing(name, expected, epoch)

if ARGV[5] == '1' then
  seq = math.max(seq, expected) + 1
  extend(name, ttl, registrar, now)
  redis.call('HSET', KEYS[5], 'seq', whole(seq), 'epoch', epoch)
  return {1, seq, version}
end
if redis.call('EXISTS', KEYS[5]) == 0 then
  return {0, seq, version}
end
extend(name, ttl, registrar, now)
return {behind and 0 or 1, seq, version}
