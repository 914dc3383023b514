-- Write an epoch's record and bind its work to it, unless any of it was revoked meanwhile. Its file holds
-- the epoch's secret: from here on no lease may be drawn from it.
-- ARGV: epoch, record JSON, then digest, worker, nonce per group in order of nonce. Returns 1 when done,
-- 0 where another copy was faster or work was revoked.
if redis.call('HEXISTS', p .. 'epochs', ARGV[1]) == 1 then
  return 0
end
for i = 3, #ARGV, 3 do
  if not redis.call('ZSCORE', p .. 'earned:' .. ARGV[i + 1], ARGV[i]) then
    return 0
  end
end
for i = 3, #ARGV, 3 do
  redis.call('HSET', p .. 'worker:' .. ARGV[i + 1], 'settling', ARGV[i + 2])
end
local revealed = tonumber(redis.call('HGET', p .. 'state', 'revealed') or '0')
redis.call('HSET', p .. 'state', 'revealed', math.max(revealed, ARGV[1] + 1))
redis.call('HSET', p .. 'epochs', ARGV[1], ARGV[2])
return 1
