-- Hand replays to a verifier. One that let a replay lapse, or could not decide it, sees it again only
-- when all others had it, or nobody wanted it for two lease times. Looked through are the oldest places and, where
-- they have too few that it may take, as many of the others, on from where its last look ended.
-- ARGV: verifier, count, now, lease seconds, verifiers on chain, seconds to remember who was asked, seconds
-- to remember to whom it was ever handed.
local verifier, count, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local seconds = tonumber(ARGV[4])
local _, num_voters = voters(ARGV[5])
local taken, PAGE = {}, 512

local function may_take(digest, available_at)
  if redis.call('HEXISTS', p .. 'seals:' .. digest, verifier) == 1 then return false end
  local slots = redis.call('HGETALL', p .. 'slots:' .. digest)
  for i = 1, #slots, 2 do
    local until_at = redis.call('ZSCORE', p .. 'audits', digest .. ':' .. slots[i])
    if slots[i + 1] == verifier and until_at and tonumber(until_at) > now then
      return false
    end
  end
  local asked = p .. 'asked:' .. digest
  if redis.call('SISMEMBER', asked, verifier) == 1 then
    if redis.call('SCARD', asked) < num_voters and now - available_at < 2 * seconds then
      return false
    end
    redis.call('DEL', asked)
  end
  return true
end

-- Hand out a place, or leave it; returns 1 where it stays due.
local function hand_out(place, available_at)
  local digest, slot = string.match(place, '^(.*):(%d+)$')
  if redis.call('HGET', p .. 'group:' .. digest, 'state') ~= 'replay' then
    redis.call('ZREM', p .. 'audits', place)
    return 0
  end
  if not may_take(digest, available_at) then return 1 end
  redis.call('SADD', p .. 'asked:' .. digest, verifier)
  redis.call('EXPIRE', p .. 'asked:' .. digest, ARGV[6])
  redis.call('SADD', p .. 'handed:' .. digest, verifier)
  redis.call('EXPIRE', p .. 'handed:' .. digest, ARGV[7])
  redis.call('HSET', p .. 'slots:' .. digest, slot, verifier)
  redis.call('ZADD', p .. 'audits', now + seconds, place)
  redis.call('HINCRBY', p .. 'state', 'handed', 1)
  taken[#taken + 1] = digest
  return 0
end

-- Look through a page of due places from a rank on; returns the rank after it, or nothing where it was the last.
local function look(from)
  local due = redis.call('ZRANGEBYSCORE', p .. 'audits', '-inf', now, 'WITHSCORES', 'LIMIT', from, PAGE)
  for i = 1, #due, 2 do
    if #taken == count then return from end
    from = from + hand_out(due[i], tonumber(due[i + 1]))
  end
  if #due == 2 * PAGE then return from end
end

local oldest = look(0)
if oldest and #taken < count then
  local from = math.max(oldest, tonumber(redis.call('HGET', p .. 'looked', verifier) or '0'))
  redis.call('HSET', p .. 'looked', verifier, look(from) or 0)
end
return taken
