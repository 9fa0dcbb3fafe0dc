-- KEYS table log meta leases
-- ARGV how many endpoints at most
-- Reply {1 if there is more to do, endpoints removed, epoch, version, longest ttl known (ms)}

local budget = tonumber(ARGV[1])
local now, guard = clock()
local epoch, version = open_table()

local changes, more = {}, 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', whole(now), 'LIMIT', 0, budget)) do
  local granted = guard + tonumber(redis.call('HGET', lease_key(name), 'ttl') or 0)
  if budget <= 0 then
    more = 1
    break
  elseif now < granted then
    -- Moved out of the way, so that leases that wait for the guard never hide one that does not.
    redis.call('ZADD', LEASES, whole(granted), name)
  else
    local looked_at, gone = drop(name, budget, changes)
    budget = budget - math.max(looked_at, 1)
    if not gone then
      more = 1
    end
  end
end
version = append(version, changes)
return {more, #changes / 2, epoch, version, tonumber(redis.call('HGET', META, 'ttl') or 0)}
