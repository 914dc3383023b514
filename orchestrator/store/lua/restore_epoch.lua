-- A posted epoch is on chain no more, or never will be: its work is unsettled again. Safe to repeat.
-- ARGV: epoch, record JSON or '' to forget it, most events, event body, then digest, worker, nonce, units
-- per group.
for i = 5, #ARGV, 4 do
  if redis.call('ZREM', p .. 'posted:' .. ARGV[i + 1], ARGV[i]) == 1 then
    redis.call('ZADD', p .. 'earned:' .. ARGV[i + 1], ARGV[i + 2], ARGV[i])
    redis.call('HINCRBY', p .. 'state', 'unsettled', ARGV[i + 3])
    redis.call('HINCRBY', p .. 'state', 'posted', -tonumber(ARGV[i + 3]))
  end
end
if ARGV[2] == '' then
  redis.call('HDEL', p .. 'epochs', ARGV[1])
else
  redis.call('HSET', p .. 'epochs', ARGV[1], ARGV[2])
end
event(ARGV[3], 'epoch_voided', ARGV[4])
return 1
