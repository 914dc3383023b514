-- An epoch is final: its accounts are what was earned. Safe to repeat.
-- ARGV: epoch, record JSON, most events, event body, number of accounts, then worker, earned, last nonce
-- per account, then digest, worker, units per group of ours.
local accounts_end = 5 + 3 * tonumber(ARGV[5])
for i = 6, accounts_end, 3 do
  redis.call('HSET', p .. 'worker:' .. ARGV[i], 'earned', ARGV[i + 1], 'settled', ARGV[i + 2])
  -- Under somebody else's header: what it paid of ours, or passed over, can never be paid again.
  local earned = p .. 'earned:' .. ARGV[i]
  for _, digest in ipairs(redis.call('ZRANGEBYSCORE', earned, '-inf', ARGV[i + 2])) do
    redis.call('ZREM', earned, digest)
    redis.call('HINCRBY', p .. 'state', 'unsettled',
      -tonumber(redis.call('HGET', p .. 'group:' .. digest, 'units')))
  end
end
for i = accounts_end + 1, #ARGV, 3 do
  if redis.call('ZREM', p .. 'posted:' .. ARGV[i + 1], ARGV[i]) == 1 then
    redis.call('HINCRBY', p .. 'state', 'posted', -tonumber(ARGV[i + 2]))
  end
end
redis.call('HSET', p .. 'epochs', ARGV[1], ARGV[2])
redis.call('HSET', p .. 'state', 'final', ARGV[1] + 1)
event(ARGV[3], 'epoch_final', ARGV[4])
return 1
