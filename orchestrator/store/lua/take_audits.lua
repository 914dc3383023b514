-- Hand replays to a verifier. One that let a replay lapse, or could not decide it, sees it again only
-- when all others had it, or nobody wanted it for two lease times.
-- ARGV: verifier, count, now, lease seconds, verifiers on chain, seconds to remember who was asked, seconds
-- to remember to whom it was ever handed.
local verifier, count, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local seconds = tonumber(ARGV[4])
local _, num_voters = voters(ARGV[5])
local taken = {}

local function may_take(digest, available_at)
  local vote = redis.call('HGET', p .. 'votes:' .. digest, verifier)
  if vote and vote ~= 'undecided' then
    return false
  end
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

local due = redis.call('ZRANGEBYSCORE', p .. 'audits', '-inf', now, 'WITHSCORES', 'LIMIT', 0, 512)
for i = 1, #due, 2 do
  if #taken == count then
    break
  end
  local digest, slot = string.match(due[i], '^(.*):(%d+)$')
  if redis.call('HGET', p .. 'group:' .. digest, 'state') ~= 'replay' then
    redis.call('ZREM', p .. 'audits', due[i])
  elseif may_take(digest, tonumber(due[i + 1])) then
    redis.call('SADD', p .. 'asked:' .. digest, verifier)
    redis.call('EXPIRE', p .. 'asked:' .. digest, ARGV[6])
    redis.call('SADD', p .. 'handed:' .. digest, verifier)
    redis.call('EXPIRE', p .. 'handed:' .. digest, ARGV[7])
    redis.call('HSET', p .. 'slots:' .. digest, slot, verifier)
    redis.call('ZADD', p .. 'audits', now + seconds, due[i])
    redis.call('HINCRBY', p .. 'state', 'handed', 1)
    taken[#taken + 1] = digest
  end
end
return taken
