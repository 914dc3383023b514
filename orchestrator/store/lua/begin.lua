-- Read all that judging a submission needs, in one round trip. KEYS[2] is its payer's bucket.
-- ARGV: lease id, worker, rate, burst, now.
-- Returns {wait, signed lease, used digest, its receipt, accepted groups with lower nonces (since the last pause),
-- excluded, newest, why it is excluded or '', debt of dropped leases, its deadline where it is open,
-- the digest of work that came in time}.
local wait = bucket(KEYS[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), 1)
if wait ~= 0 then
  return {wait}
end
local l = redis.call('HMGET', p .. 'lease:' .. ARGV[1], 'signed', 'used', 'nonce', 'in_time')
local receipt = false
if l[2] then
  receipt = redis.call('HGET', p .. 'group:' .. l[2], 'receipt')
end
local w = redis.call('HMGET', p .. 'worker:' .. ARGV[2], 'accepted_groups', 'excluded',
  'excluded_for', 'drop_debt', 'record_from')
-- No epoch takes work above an open nonce, so what was accepted above it is among the unsettled.
local above = l[3] and redis.call('ZCOUNT', p .. 'earned:' .. ARGV[2], '(' .. l[3], '+inf') or 0
local record = math.max(0, tonumber(w[1] or '0') - above - tonumber(w[5] or '0'))
return {'', l[1], l[2], receipt, record, w[2], redis.call('HGET', p .. 'state', 'newest'), w[3] or '',
  w[4] or '0', l[3] and redis.call('ZSCORE', p .. 'open', ARGV[2] .. ':' .. l[3]), l[4] or ''}
