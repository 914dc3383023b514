-- Prelude of every script: what a group's or a lease's change of state means for its worker.
-- KEYS[1] is the run's prefix (keys.py); `max_events` caps the event stream.

local p = KEYS[1]

local function event(max_events, kind, body)
  redis.call('XADD', p .. 'events', 'MAXLEN', '~', max_events, '*', 'kind', kind, 'body', body)
end

-- Whether an epoch's secret is in a file: a copy that looked at the chain a while ago does not know.
local function is_revealed(epoch)
  return tonumber(epoch) < tonumber(redis.call('HGET', p .. 'state', 'revealed') or '0')
end

-- The groups bound to an epoch: digest, worker, nonce, units of each; none of somebody else's.
local function work_of(epoch)
  local packed = redis.call('GET', p .. 'work:' .. epoch)
  return packed and cmsgpack.unpack(packed) or {}
end

-- The life of Redis: its server has another id after each start, and may have forgotten what was written.
local function life()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- A lease ends, used or not. Its nonce is decided only where no group takes its place.
local function close_lease(worker, nonce, is_decided)
  local was_open = redis.call('ZREM', p .. 'open', worker .. ':' .. nonce)
  redis.call('ZREM', p .. 'idle', worker .. ':' .. nonce)
  redis.call('SREM', p .. 'held:' .. worker, nonce)
  if is_decided then
    redis.call('ZREM', p .. 'undecided:' .. worker, nonce)
  end
  return was_open
end

-- Nothing more will come of a lease: its policy version has one open less. Returns the version.
local function ended(worker, nonce)
  local leased = p .. 'leased:' .. worker
  local version = redis.call('HGET', leased, nonce)
  if version then
    redis.call('HDEL', leased, nonce)
    redis.call('HINCRBY', p .. 'rewards:' .. version, 'open', -1)
  end
  return version
end

-- The debt of `protocol/checks/drops.py`, in millionths of a lease: a drop adds, a finished group takes off.
local function owe(worker, change, most)
  local w = p .. 'worker:' .. worker
  local debt = tonumber(redis.call('HGET', w, 'drop_debt') or '0') + change
  redis.call('HSET', w, 'drop_debt', math.max(0, math.min(most, debt)))
end

-- A lease ended without work that may be paid.
local function dropped(worker, nonce, per_drop, most)
  ended(worker, nonce)
  redis.call('HINCRBY', p .. 'worker:' .. worker, 'dropped', 1)
  owe(worker, per_drop, most)
end

-- A lease ended for a reason that is not its worker's: it was never one.
local function forgiven(worker, nonce)
  local version = ended(worker, nonce)
  if version then
    redis.call('HINCRBY', p .. 'rewards:' .. version, worker .. ':leased', -1)
  end
end

-- What `protocol/checks/withholding.py` compares: accepted groups' mean rewards, by version and worker.
local function rewarded(worker, version, rewards)
  local sum, count = 0, 0
  for reward in string.gmatch(rewards or '', '%d+') do
    sum = sum + tonumber(reward)
    count = count + 1
  end
  if not version or count == 0 then
    return
  end
  local mean, tallies = math.floor(sum / count), p .. 'rewards:' .. version
  redis.call('HINCRBY', tallies, worker .. ':finished', 1)
  redis.call('HINCRBY', tallies, worker .. ':sum', mean)
  redis.call('HINCRBY', tallies, worker .. ':squares', mean * mean)
  local count = redis.call('HINCRBY', p .. 'worker:' .. worker, 'rewarded', 1)
  if count % 64 == 0 then redis.call('ZADD', p .. 'looks', count, worker) end
end

-- How many more of a worker's groups were rejected than accepted, which `rules/rejections.py` goes by.
local function weigh(worker, change)
  local w = p .. 'worker:' .. worker
  local excess = tonumber(redis.call('HGET', w, 'num_excess') or '0') + change
  redis.call('HSET', w, 'num_excess', math.max(0, excess))
end

-- Returns the policy version where the lease was undecided until now.
local function decided(digest, worker, nonce)
  redis.call('ZREM', p .. 'undecided:' .. worker, nonce)
  if redis.call('SREM', p .. 'replay:' .. worker, digest) == 1 then
    redis.call('HINCRBY', p .. 'state', 'replaying', -1)
  end
  redis.call('ZREM', p .. 'waiting', digest)
  return ended(worker, nonce)
end

local function accept(digest)
  local g = redis.call('HMGET', p .. 'group:' .. digest,
    'worker', 'nonce', 'tokens', 'units', 'version', 'is_trainable', 'candidate', 'rewards')
  local worker = g[1]
  rewarded(worker, decided(digest, worker, g[2]), g[8])
  redis.call('HSET', p .. 'group:' .. digest, 'state', 'accepted')
  redis.call('ZADD', p .. 'earned:' .. worker, g[2], digest)
  redis.call('HINCRBY', p .. 'worker:' .. worker, 'accepted_groups', 1)
  redis.call('HINCRBY', p .. 'worker:' .. worker, 'accepted_tokens', g[3])
  weigh(worker, -1)
  redis.call('HINCRBY', p .. 'state', 'unsettled', g[4])
  if g[6] ~= '1' then
    redis.call('HINCRBY', p .. 'flat', 'all', 1)
    redis.call('HINCRBY', p .. 'flat', worker, 1)
  end
  local oldest = tonumber(redis.call('HGET', p .. 'state', 'oldest') or '0')
  if g[6] == '1' and tonumber(g[5]) >= oldest then
    local seq = redis.call('HINCRBY', p .. 'state', 'seq', 1)
    redis.call('ZADD', p .. 'ready', seq, g[7])
  end
end

local function reject(digest, reason, detail)
  local g = redis.call('HMGET', p .. 'group:' .. digest, 'worker', 'nonce')
  decided(digest, g[1], g[2])
  redis.call('HSET', p .. 'group:' .. digest,
    'state', 'rejected', 'rejection', reason, 'detail', detail)
  redis.call('HINCRBY', p .. 'worker:' .. g[1], 'rejected:' .. reason, 1)
  if reason ~= 'stale_policy' then weigh(g[1], 1) end
  if string.sub(reason, 1, 7) == 'replay_' then
    redis.call('HSET', p .. 'worker:' .. g[1], 'last_rejected', '0x' .. digest .. ': ' .. detail)
  end
end

local function group(digest) return p .. 'group:' .. digest end

local function num_slots(digest, num_verifiers)
  return tonumber(redis.call('HGET', group(digest), 'num_slots') or num_verifiers)
end

-- Nobody is asked about the group any more.
local function drop_places(digest, num_verifiers)
  for slot = 1, num_slots(digest, num_verifiers) do
    redis.call('ZREM', p .. 'audits', digest .. ':' .. slot)
  end
  redis.call('DEL', p .. 'slots:' .. digest)
end

-- Count the hidden votes for their verifiers, and announce them all or those of one outcome.
local function show_ballots(max_events, digest, only)
  local votes = redis.call('HGETALL', p .. 'votes:' .. digest)
  for i = 1, #votes, 2 do
    local body = redis.call('HGET', p .. 'ballots:' .. digest, votes[i])
    if body then redis.call('HINCRBY', p .. 'verifier:' .. votes[i], votes[i + 1], 1) end
    if body and (only == '' or votes[i + 1] == only) then event(max_events, 'verdict', body) end
  end
  redis.call('DEL', p .. 'ballots:' .. digest)
end

-- Accepted work that no epoch has taken yet is neither paid nor trained on any more.
local function revoke(digest, detail)
  local g = redis.call('HMGET', group(digest), 'worker', 'tokens', 'units', 'candidate')
  redis.call('ZREM', p .. 'earned:' .. g[1], digest)
  redis.call('HINCRBY', p .. 'worker:' .. g[1], 'accepted_groups', -1)
  redis.call('HINCRBY', p .. 'worker:' .. g[1], 'accepted_tokens', -g[2])
  redis.call('HINCRBY', p .. 'state', 'unsettled', -g[3])
  reject(digest, 'worker_excluded', detail)
end

-- A worker whose work was found false: nothing of it is leased, trained on or paid from here on.
-- Work already written into an epoch stays: verifiers are signing exactly that file.
local function exclude(max_events, worker, detail, num_verifiers)
  local w = p .. 'worker:' .. worker
  redis.call('HSET', w, 'excluded', '1')
  redis.call('HDEL', w, 'excluded_for')
  for _, nonce in ipairs(redis.call('SMEMBERS', p .. 'held:' .. worker)) do
    close_lease(worker, nonce, true)
    ended(worker, nonce)
  end
  for _, digest in ipairs(redis.call('SMEMBERS', p .. 'replay:' .. worker)) do
    reject(digest, 'worker_excluded', detail)
    show_ballots(max_events, digest, '')
    drop_places(digest, num_verifiers)
  end
  local settling = tonumber(redis.call('HGET', w, 'settling') or '0')
  local earned = redis.call('ZRANGE', p .. 'earned:' .. worker, 0, -1, 'WITHSCORES')
  for i = 1, #earned, 2 do
    redis.call('ZREM', p .. 'ready', redis.call('HGET', group(earned[i]), 'candidate'))
    if tonumber(earned[i + 1]) > settling then revoke(earned[i], detail) end
  end
end

-- A canary that all have judged looks like accepted work, and pays nobody.
local function close_canary(digest)
  local g = redis.call('HMGET', group(digest), 'worker', 'nonce', 'tokens')
  decided(digest, g[1], g[2])
  redis.call('HSET', group(digest), 'state', 'accepted')
  redis.call('HINCRBY', p .. 'worker:' .. g[1], 'canaries', 1)
  redis.call('HINCRBY', p .. 'worker:' .. g[1], 'canary_tokens', g[3])
  redis.call('ZREM', p .. 'canary_groups', digest)
end

-- What several reads answer, keys after the run's prefix: what `write.lua` compares.
local function answers_of(reads)
  local answers = {}
  for i, read in ipairs(cmsgpack.unpack(reads)) do
    answers[i] = redis.call(read[1], p .. read[2], unpack(read, 3))
  end
  return answers
end

-- The verifiers whose votes count, and how many they are: those on chain (space separated) less those that
-- failed a canary.
local function voters(listed)
  local found, count = {}, 0
  for verifier in string.gmatch(listed, '%S+') do
    if redis.call('SISMEMBER', p .. 'voteless', verifier) == 0 then
      found[verifier] = true
      count = count + 1
    end
  end
  return found, count
end

-- A token bucket; returns 0 where the request may pass, or the seconds to wait as text. One token admits a
-- request of any cost: it owes the rest, a burst at most.
local function bucket(key, rate, burst, now, cost, is_owed)
  local b = redis.call('HMGET', key, 'tokens', 'at')
  local tokens = tonumber(b[1]) or burst
  local at = tonumber(b[2]) or now
  tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
  if tokens < 1 and not is_owed then
    return tostring((1 - tokens) / rate)
  end
  redis.call('HSET', key, 'tokens', tostring(math.max(-burst, tokens - cost)), 'at', tostring(now))
  redis.call('EXPIRE', key, math.max(60, math.ceil(2 * burst / rate)))
  return 0
end
