-- An epoch was posted: its work is committed on chain and waits for finality. Safe to repeat.
-- ARGV: epoch, record JSON, most events, event body, then digest, worker, nonce, units per group.
redis.call('HSET', p .. 'epochs', ARGV[1], ARGV[2])
local is_news = false
for i = 5, #ARGV, 4 do
  if redis.call('ZREM', p .. 'earned:' .. ARGV[i + 1], ARGV[i]) == 1 then
    is_news = true
    redis.call('ZADD', p .. 'posted:' .. ARGV[i + 1], ARGV[i + 2], ARGV[i])
    redis.call('HINCRBY', p .. 'state', 'unsettled', -tonumber(ARGV[i + 3]))
    redis.call('HINCRBY', p .. 'state', 'posted', ARGV[i + 3])
  end
end
event(ARGV[3], 'epoch_posted', ARGV[4])
return is_news and 1 or 0
