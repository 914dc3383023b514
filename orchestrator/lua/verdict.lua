-- Count one verdict. ARGV: digest, verifier, outcome, verdict JSON, votes needed, number of verifiers,
-- now, seconds before an undecided replay is offered again, rejection, detail, report JSON or '',
-- most events, event body, exclusion event body.
-- Returns {outcome, state}: 'counted', 'same', 'conflict', 'missing'.
local digest, verifier, outcome = ARGV[1], ARGV[2], ARGV[3]
local needed, num_verifiers, now = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local group = p .. 'group:' .. digest
local state = redis.call('HGET', group, 'state')
if not state then
  return {'missing', ''}
end
local vote = redis.call('HGET', p .. 'votes:' .. digest, verifier)
if vote and vote ~= 'undecided' then
  if vote == outcome or outcome == 'undecided' then
    return {'same', state}
  end
  return {'conflict', vote}
end
redis.call('HSET', p .. 'votes:' .. digest, verifier, outcome)
redis.call('HSET', p .. 'verdicts:' .. digest, verifier, ARGV[4])
event(ARGV[12], 'verdict', ARGV[13])
if state ~= 'replay' then
  return {'counted', state}
end

local slot = nil
local slots = redis.call('HGETALL', p .. 'slots:' .. digest)
for i = 1, #slots, 2 do
  if slots[i + 1] == verifier then
    slot = slots[i]
  end
end
if outcome == 'undecided' then
  if slot then
    redis.call('ZADD', p .. 'audits', now + tonumber(ARGV[8]), digest .. ':' .. slot)
    redis.call('HDEL', p .. 'slots:' .. digest, slot)
  end
  return {'counted', state}
end

local counts = {accepted = 0, rejected = 0}
local votes = redis.call('HGETALL', p .. 'votes:' .. digest)
for i = 2, #votes, 2 do
  if counts[votes[i]] then
    counts[votes[i]] = counts[votes[i]] + 1
  end
end
local num_voted = counts.accepted + counts.rejected
if slot then
  redis.call('ZREM', p .. 'audits', digest .. ':' .. slot)
  redis.call('HDEL', p .. 'slots:' .. digest, slot)
end
if counts.rejected >= needed then
  local worker = redis.call('HGET', group, 'worker')
  reject(digest, ARGV[9], ARGV[10])
  local is_first = redis.call('HGET', p .. 'worker:' .. worker, 'excluded') ~= '1'
  exclude(worker, 'replay of 0x' .. digest .. ' found false work: ' .. ARGV[9])
  if is_first then
    event(ARGV[12], 'exclusion', ARGV[14])
    if ARGV[11] ~= '' then
      redis.call('HSET', p .. 'reports', digest, ARGV[11])
    end
  end
elseif counts.accepted >= needed then
  accept(digest, true)
elseif num_voted >= num_verifiers then
  -- Verifiers disagree and none is left to ask: not condemned, so paid; not vouched for, so not trained on.
  accept(digest, false)
else
  -- They disagree so far: ask one more than was planned where nobody is asked any more.
  local planned = needed - math.max(counts.accepted, counts.rejected)
  for i = 1, planned do
    redis.call('ZADD', p .. 'audits', 'NX', now, digest .. ':' .. (num_voted + i))
  end
end
return {'counted', redis.call('HGET', group, 'state')}
