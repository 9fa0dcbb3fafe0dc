-- The opening of every registry script: the text that Redis runs is this file followed by one of the others.
-- KEYS[1..4] are the same for all: table, log, meta, leases. The other keys share their prefix and so their hash tag.

local TABLE, LOG, META, LEASES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local PREFIX = string.sub(TABLE, 1, -6)

local SEEN_EVERY_MS = 500
local ABSENCE_MS = 5000
local STEP_BACK_MS = 1000
local LOG_GENERATION = 250000

local function whole(number)
  return string.format('%.0f', number)
end

local function lease_key(name)
  return PREFIX .. 'lease:' .. name
end

local function owned_key(name)
  return PREFIX .. 'owned:' .. name
end

local function belongs(value, name)
  return string.sub(value, 1, #name + 1) == name .. ' '
end

-- Redis's clock in ms, and the moment from which every lease is granted one whole TTL.
local function clock()
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local meta = redis.call('HMGET', META, 'seen', 'guard')
  local seen, guard = tonumber(meta[1] or 0), tonumber(meta[2] or 0)
  local stepped_back = seen - now > STEP_BACK_MS
  if now - seen > ABSENCE_MS or stepped_back then
    guard = now
    redis.call('HSET', META, 'seen', whole(now), 'guard', whole(now))
  elseif now - seen >= SEEN_EVERY_MS then
    redis.call('HSET', META, 'seen', whole(now))
  end
  if stepped_back then
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '(' .. whole(now), '(inf')) do
      local ttl = tonumber(redis.call('HGET', lease_key(name), 'ttl') or 0)
      if tonumber(redis.call('ZSCORE', LEASES, name)) > now + ttl then
        redis.call('ZADD', LEASES, whole(now + ttl), name)
      end
    end
  end
  return now, guard
end

-- The epoch and version of the table. A table that is new, or that is not what the last script left (deleted, evicted,
-- edited by hand), gets a new epoch, by which routers and leases learn that what they wrote may be gone.
local function open_table()
  local meta = redis.call('HMGET', META, 'epoch', 'version', 'size')
  local epoch, version, size = meta[1], meta[2], redis.call('HLEN', TABLE)
  local whole_log = version == '0-0' or redis.call('EXISTS', LOG) == 1
  if epoch and version and whole_log and tonumber(meta[3] or -1) == size then
    return epoch, version
  end
  local newest = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)
  version = newest[1] and newest[1][1] or '0-0'
  epoch = string.sub(redis.sha1hex(table.concat(redis.call('TIME'), '.') .. (epoch or '')), 1, 16)
  redis.call('HDEL', META, 'mark', 'floor', 'ttl')
  redis.call('HSET', META, 'epoch', epoch, 'version', version, 'size', size, 'logged', 0)
  return epoch, version
end

-- One log entry for all changes of this call: {'+field', record, '-field', '', ...}. The log keeps the last one to two
-- generations of changes: counted in changes, not entries, because one entry may carry a thousand of them.
local function append(version, changes)
  if #changes == 0 then
    return version
  end
  local floor = redis.call('HGET', META, 'floor') or '0-0'
  local id = redis.call('XADD', LOG, 'MINID', '~', floor, '*', 'prev', version, unpack(changes))
  redis.call('HSET', META, 'version', id, 'size', redis.call('HLEN', TABLE))
  if redis.call('HINCRBY', META, 'logged', #changes / 2) >= LOG_GENERATION then
    redis.call('HSET', META, 'floor', redis.call('HGET', META, 'mark') or '0-0', 'mark', id, 'logged', 0)
  end
  return id
end

-- The lease's change count, and whether Redis holds less than its registrar wrote.
local function standing(name, expected, epoch)
  local lease = redis.call('HMGET', lease_key(name), 'seq', 'epoch')
  local seq = tonumber(lease[1] or 0)
  return seq, seq < expected or (lease[2] and lease[2] ~= epoch)
end

local function extend(name, ttl, registrar, now)
  local key = lease_key(name)
  local lease = redis.call('HMGET', key, 'ttl', 'registrar')
  if lease[1] ~= whole(ttl) or lease[2] ~= registrar then
    redis.call('HSET', key, 'ttl', whole(ttl), 'registrar', registrar)
    if ttl > tonumber(redis.call('HGET', META, 'ttl') or 0) then
      redis.call('HSET', META, 'ttl', whole(ttl))
    end
  end
  redis.call('ZADD', LEASES, ttl > 0 and whole(now + ttl) or '+inf', name)
end

-- Up to `budget` endpoints of a lease leave; with the last one the lease goes too. Returns how many were looked at, and
-- whether the lease is gone.
local function drop(name, budget, changes)
  local fields = redis.call('SPOP', owned_key(name), budget)
  for _, field in ipairs(fields) do
    local value = redis.call('HGET', TABLE, field)
    if value and belongs(value, name) then
      redis.call('HDEL', TABLE, field)
      changes[#changes + 1] = '-' .. field
      changes[#changes + 1] = ''
    end
  end
  local gone = redis.call('SCARD', owned_key(name)) == 0
  if gone then
    redis.call('DEL', lease_key(name))
    redis.call('ZREM', LEASES, name)
  end
  return #fields, gone
end
