-- The run was restored: leases may be granted. ARGV: the server's id, the nonces below which none is given
-- any more, the epochs from 0 on whose secret may be known. Returns 1.
local revealed = tonumber(redis.call('HGET', p .. 'state', 'revealed') or '0')
redis.call('HSET', p .. 'state', 'life', ARGV[1], 'floor', ARGV[2],
  'revealed', math.max(revealed, tonumber(ARGV[3])))
return 1
