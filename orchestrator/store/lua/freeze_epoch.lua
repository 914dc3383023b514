-- Write an epoch's record and bind its work to it, unless any of it was revoked meanwhile. Its file holds
-- the epoch's secret: from here on no lease may be drawn from it.
-- ARGV: epoch, record JSON, then in MessagePack digest, worker, nonce, units of each group in order of nonce.
-- Returns 1 when done, 0 where another copy was faster or work was revoked.
if redis.call('HEXISTS', p .. 'epochs', ARGV[1]) == 1 then
  return 0
end
local work = cmsgpack.unpack(ARGV[3])
for _, row in ipairs(work) do
  if not redis.call('ZSCORE', p .. 'earned:' .. row[2], row[1]) then
    return 0
  end
end
for _, row in ipairs(work) do
  redis.call('HSET', p .. 'worker:' .. row[2], 'settling', row[3])
end
local revealed = tonumber(redis.call('HGET', p .. 'state', 'revealed') or '0')
redis.call('HSET', p .. 'state', 'revealed', math.max(revealed, ARGV[1] + 1))
redis.call('HSET', p .. 'epochs', ARGV[1], ARGV[2])
redis.call('SET', p .. 'work:' .. ARGV[1], ARGV[3])
return 1
