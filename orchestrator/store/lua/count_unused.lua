-- Count a new blob among KEYS[2], those that nothing names. ARGV: digest, bytes, most bytes, seconds that all are
-- counted. Returns 1 where there is room, or it is counted already.
local key = KEYS[2]
if redis.call('HEXISTS', key, ARGV[1]) == 1 then return 1 end
local all = tonumber(redis.call('HGET', key, 'all') or '0')
if all + tonumber(ARGV[2]) > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', key, ARGV[1], ARGV[2])
redis.call('HINCRBY', key, 'all', ARGV[2])
if all == 0 then redis.call('EXPIRE', key, ARGV[4]) end
return 1
