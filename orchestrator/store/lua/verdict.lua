-- Count one verdict, and find out by it who verifies badly.
-- ARGV: digest, verifier, outcome, verdict JSON, votes that accept, votes that condemn, verifiers on chain,
-- now, seconds before an undecided replay is offered again, rejection, detail, report JSON or '', most
-- events, event body, exclusion event body, run id, seconds to keep unopened ballots, what the verdict's
-- figures justify (`protocol/checks/evidence.py`), 1 where the worker's test alarmed, pause event body.
-- Returns {outcome, state, what happened besides}: 'counted', 'same', 'conflict', 'missing', 'foreign'.
local digest, verifier, outcome = ARGV[1], ARGV[2], ARGV[3]
local to_accept, to_condemn = tonumber(ARGV[5]), tonumber(ARGV[6])
local now, max_events = tonumber(ARGV[8]), ARGV[13]
local counting, num_voters = voters(ARGV[7])
local _, num_verifiers = string.gsub(ARGV[7], '%S+', '')
local happened = {}

local function group(d) return p .. 'group:' .. d end
local function votes_on(d) return redis.call('HGETALL', p .. 'votes:' .. d) end

local function say(kind, fields)
  local body = {kind = kind, at = now, run_id = tonumber(ARGV[16]), fields = fields}
  event(max_events, kind, cjson.encode(body))
  happened[#happened + 1] = kind
end

-- Nobody sees how others voted while votes are still asked for: a copied verdict is no second replay.
-- What a canary's ballots must not tell is left out (`only`).
local function open_ballots(d, only)
  local ballots, votes = p .. 'ballots:' .. d, votes_on(d)
  for i = 1, #votes, 2 do
    local body = redis.call('HGET', ballots, votes[i])
    if body and (not only or votes[i + 1] == only) then
      event(max_events, 'verdict', body)
    end
    redis.call('SREM', p .. 'votes_of:' .. votes[i], d)
  end
  redis.call('DEL', ballots)
end

local function free_places(d)
  for slot = 1, tonumber(redis.call('HGET', group(d), 'num_slots') or num_verifiers) do
    redis.call('ZREM', p .. 'audits', d .. ':' .. slot)
  end
  redis.call('DEL', p .. 'slots:' .. d)
end

local function odd_one(d, voter, vote, found)
  redis.call('HINCRBY', p .. 'verifier:' .. voter, 'odd', 1)
  say('odd_one_out', {verifier = voter, digest = '0x' .. d, outcome = vote, found = found})
end

-- `found` is what a quorum agreed on, or 'split'.
local function close(d, found)
  redis.call('HSET', group(d), 'found', found)
  open_ballots(d)
  free_places(d)
  if found == 'split' then
    return
  end
  local votes = votes_on(d)
  for i = 1, #votes, 2 do
    if votes[i + 1] ~= found and votes[i + 1] ~= 'undecided' then
      odd_one(d, votes[i], votes[i + 1], found)
    end
  end
end

-- How many that have a vote found at least this of a group: 'named', or 'gross', which named evidence is too.
local function num_finding(d, found)
  local findings, count = redis.call('HGETALL', p .. 'findings:' .. d), 0
  for i = 1, #findings, 2 do
    local is_so = findings[i + 1] == 'named' or findings[i + 1] == found
    count = count + (counting[findings[i]] and is_so and 1 or 0)
  end
  return count
end

-- Whose work was false beyond what an honest machine does loses its place, and its stake is asked for.
local function sanction(d, worker, also)
  if redis.call('HGET', p .. 'worker:' .. worker, 'excluded') == '1' then
    return
  end
  exclude(worker, 'replay of 0x' .. d .. ' found false work: ' .. ARGV[10])
  event(max_events, 'exclusion', ARGV[15])
  if ARGV[12] ~= '' then
    local report = cjson.decode(ARGV[12])
    report.also = also and ('0x' .. also) or nil
    redis.call('HSET', p .. 'reports', d, cjson.encode(report))
  end
end

local function condemn(d)
  local worker = redis.call('HGET', group(d), 'worker')
  reject(d, ARGV[10], ARGV[11])
  close(d, 'rejected')
  if num_finding(d, 'named') >= to_condemn then
    sanction(d, worker)
  elseif num_finding(d, 'gross') >= to_condemn then
    local gross = p .. 'gross:' .. worker
    local before = redis.call('SMEMBERS', gross)[1]
    redis.call('SADD', gross, d)
    if before and before ~= d then
      sanction(d, worker, before)
    end
  end
end

-- Work that passes one by one and drifts together: its worker is paid, and pauses.
local function drifts(worker)
  local alarms, count = p .. 'alarms:' .. worker, 0
  redis.call('SADD', alarms, verifier)
  redis.call('EXPIRE', alarms, ARGV[17])
  for _, voter in ipairs(redis.call('SMEMBERS', alarms)) do
    count = count + (counting[voter] and 1 or 0)
  end
  if count >= to_condemn then
    redis.call('DEL', alarms)
    local w = p .. 'worker:' .. worker
    redis.call('HSET', w, 'paused', ARGV[11])
    -- Its record begins again: all that it sends is replayed, as a newcomer's is.
    redis.call('HSET', w, 'record_from', redis.call('HGET', w, 'accepted_groups') or '0')
    event(max_events, 'paused', ARGV[20])
    happened[#happened + 1] = 'worker_paused'
  end
end

local function ask(d, wanted)
  local last = tonumber(redis.call('HGET', group(d), 'num_slots') or num_verifiers)
  local asked = 0
  for slot = 1, last do
    asked = asked + (redis.call('ZSCORE', p .. 'audits', d .. ':' .. slot) and 1 or 0)
  end
  for slot = last + 1, last + wanted - asked do
    redis.call('ZADD', p .. 'audits', now, d .. ':' .. slot)
  end
  redis.call('HSET', group(d), 'num_slots', math.max(last, last + wanted - asked))
end

local function tally(d)
  local counts, votes = {accepted = 0, rejected = 0}, votes_on(d)
  for i = 1, #votes, 2 do
    if counting[votes[i]] and counts[votes[i + 1]] then
      counts[votes[i + 1]] = counts[votes[i + 1]] + 1
    end
  end
  if counts.rejected >= to_condemn then
    condemn(d)
  elseif counts.accepted >= to_accept then
    accept(d, true)
    close(d, 'accepted')
  elseif num_voters >= to_accept and counts.accepted + counts.rejected >= num_voters then
    -- They disagree and none is left to ask: not condemned, so paid; not vouched for, so not trained on.
    accept(d, false)
    close(d, 'split')
  else
    ask(d, to_accept - math.max(counts.accepted, counts.rejected))
  end
end

-- The first failed canary costs the vote, also where it was already given; the second the stake.
local function strike(voter, d)
  local which = redis.call('HINCRBY', p .. 'verifier:' .. voter, 'canaries_failed', 1)
  redis.call('SADD', p .. 'spent_canaries', redis.call('HGET', group(d), 'worker'))
  if which == 2 then
    redis.call('SADD', p .. 'accusations', d .. ':' .. voter)
  end
  if which > 1 then
    return
  end
  redis.call('SADD', p .. 'voteless', voter)
  redis.call('HSET', p .. 'verifier:' .. voter, 'failed_on', d)
  counting, num_voters = voters(ARGV[7])
  say('vote_lost', {verifier = voter, digest = '0x' .. d})
  for _, open in ipairs(redis.call('SMEMBERS', p .. 'votes_of:' .. voter)) do
    local g = redis.call('HMGET', group(open), 'state', 'canary')
    if g[1] == 'replay' and (not g[2] or g[2] == '') then
      tally(open)
    end
  end
  redis.call('DEL', p .. 'votes_of:' .. voter)
end

-- A canary's answer was fixed before it was sent. One that nobody else found may be a fault of whoever made
-- it, so a verifier fails it only where another passed it, or where there is no other.
local function examine(d, answer)
  local votes, given, num_right = votes_on(d), {}, 0
  for i = 1, #votes, 2 do
    given[votes[i]] = votes[i + 1] ~= 'undecided' and votes[i + 1] or nil
    num_right = num_right + (votes[i + 1] == answer and 1 or 0)
  end
  for voter, vote in pairs(given) do
    local may_judge = vote == answer or num_right > 0 or num_verifiers == 1
    if may_judge and redis.call('SADD', p .. 'examined:' .. d, voter) == 1 then
      if vote == answer then
        redis.call('HINCRBY', p .. 'verifier:' .. voter, 'canaries_passed', 1)
      else
        strike(voter, d)
      end
    end
  end
  local is_waiting = redis.call('HGET', group(d), 'state') == 'replay'
  for voter in pairs(counting) do
    is_waiting = is_waiting and given[voter] ~= nil
  end
  if not is_waiting then
    return
  end
  -- All have answered: from outside it now looks like accepted work, until it is opened.
  local g = redis.call('HMGET', group(d), 'worker', 'nonce', 'tokens')
  decided(d, g[1], g[2])
  redis.call('HSET', group(d), 'state', 'accepted')
  redis.call('HINCRBY', p .. 'worker:' .. g[1], 'canaries', 1)
  redis.call('HINCRBY', p .. 'worker:' .. g[1], 'canary_tokens', g[3])
  redis.call('ZREM', p .. 'canary_groups', d)
  open_ballots(d, 'accepted')
  free_places(d)
  if num_right == 0 and num_verifiers > 1 then
    happened[#happened + 1] = 'canary_contradicted'
  end
end

local state = redis.call('HGET', group(digest), 'state')
if not state then
  return {'missing', '', ''}
end
local vote = redis.call('HGET', p .. 'votes:' .. digest, verifier)
if vote and vote ~= 'undecided' then
  local is_same = vote == outcome or outcome == 'undecided'
  return {is_same and 'same' or 'conflict', is_same and state or vote, ''}
end
if redis.call('SISMEMBER', p .. 'handed:' .. digest, verifier) == 0 then
  return {'foreign', state, ''}
end
redis.call('HSET', p .. 'votes:' .. digest, verifier, outcome)
redis.call('HSET', p .. 'verdicts:' .. digest, verifier, ARGV[4])
redis.call('HINCRBY', p .. 'verifier:' .. verifier, outcome, 1)
redis.call('HSET', p .. 'findings:' .. digest, verifier, ARGV[18])
local g = redis.call('HMGET', group(digest), 'found', 'canary')

local slot = nil
local slots = redis.call('HGETALL', p .. 'slots:' .. digest)
for i = 1, #slots, 2 do
  if slots[i + 1] == verifier then
    slot = slots[i]
  end
end
if outcome == 'undecided' then
  event(max_events, 'verdict', ARGV[14])
  if slot and state == 'replay' then
    redis.call('ZADD', p .. 'audits', now + tonumber(ARGV[9]), digest .. ':' .. slot)
    redis.call('HDEL', p .. 'slots:' .. digest, slot)
  end
  return {'counted', state, ''}
end
if slot then
  redis.call('ZREM', p .. 'audits', digest .. ':' .. slot)
  redis.call('HDEL', p .. 'slots:' .. digest, slot)
end

if state == 'replay' then
  redis.call('HSET', p .. 'ballots:' .. digest, verifier, ARGV[14])
  redis.call('EXPIRE', p .. 'ballots:' .. digest, ARGV[17])
  redis.call('SADD', p .. 'votes_of:' .. verifier, digest)
end
if g[2] and g[2] ~= '' then
  examine(digest, g[2])
elseif state == 'replay' then
  tally(digest)
else
  event(max_events, 'verdict', ARGV[14])
  if g[1] and g[1] ~= 'split' and g[1] ~= outcome then
    odd_one(digest, verifier, outcome, g[1])
  end
end
if ARGV[19] == '1' and counting[verifier] then
  drifts(redis.call('HGET', group(digest), 'worker'))
end
return {'counted', redis.call('HGET', group(digest), 'state'), table.concat(happened, ' ')}
