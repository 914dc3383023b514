-- Record a submission, once per lease. ARGV: lease id, worker, nonce, digest, state, tokens' root or
-- '', seconds to remember it, now, audit votes needed, most events, event body, the group's fields in MessagePack,
-- what a dropped lease costs, most such debt, what a group pays off, seconds to keep what admission rejects, the epoch by
-- whose secret it was drawn or not ('' where none is secret).
-- Returns {outcome, detail}: 'taken'; 'same' with the receipt; 'used', 'closed', 'revealed'; 'excluded' with why, or ''
-- for false work; 'duplicate' with the first lease.
local lease, worker, nonce, digest, state = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local used = redis.call('HGET', p .. 'lease:' .. lease, 'used')
if used == digest then
  return {'same', redis.call('HGET', p .. 'group:' .. digest, 'receipt')}
elseif used then
  return {'used', used}
end
if redis.call('HGET', p .. 'worker:' .. worker, 'excluded') == '1' then
  return {'excluded', redis.call('HGET', p .. 'worker:' .. worker, 'excluded_for') or ''}
end
if not redis.call('ZSCORE', p .. 'open', worker .. ':' .. nonce) then
  return {'closed', ''}
end
if ARGV[17] ~= '' and is_revealed(ARGV[17]) then
  return {'revealed', ''}
end
if ARGV[6] ~= '' then
  local seen = p .. 'seen:' .. ARGV[6]
  local first = redis.call('GET', seen)
  if first and first ~= lease then
    return {'duplicate', first}
  end
  redis.call('SET', seen, lease, 'EX', ARGV[7])
end
close_lease(worker, nonce, false)
redis.call('HSET', p .. 'lease:' .. lease, 'used', digest)
redis.call('HSET', p .. 'group:' .. digest, unpack(cmsgpack.unpack(ARGV[12])))
event(ARGV[10], 'submission', ARGV[11])
if state ~= 'rejected' then
  redis.call('PERSIST', p .. 'lease:' .. lease)
  owe(worker, -tonumber(ARGV[15]), tonumber(ARGV[14]))
end
if state == 'accepted' then
  accept(digest)
elseif state == 'replay' then
  redis.call('HSET', p .. 'group:' .. digest, 'state', 'replay')
  redis.call('SADD', p .. 'replay:' .. worker, digest)
  redis.call('HINCRBY', p .. 'state', 'replaying', 1)
  local g = redis.call('HMGET', p .. 'group:' .. digest, 'is_trainable', 'version', 'canary')
  if g[3] and g[3] ~= '' then
    redis.call('HINCRBY', p .. 'state', 'canaries', 1)
    redis.call('ZADD', p .. 'canary_groups', ARGV[8], digest)
  end
  if g[1] == '1' then
    redis.call('ZADD', p .. 'waiting', g[2], digest)
  end
  for slot = 1, tonumber(ARGV[9]) do
    redis.call('ZADD', p .. 'audits', ARGV[8], digest .. ':' .. slot)
  end
else
  local g = redis.call('HMGET', p .. 'group:' .. digest, 'rejection', 'detail')
  -- Sending what cannot be accepted keeps a group back as well as sending nothing.
  dropped(worker, nonce, tonumber(ARGV[13]), tonumber(ARGV[14]))
  reject(digest, g[1], g[2])
  redis.call('EXPIRE', p .. 'group:' .. digest, ARGV[16])
end
return {'taken', ''}
