-- Read all that judging a submission needs, in one round trip. KEYS[2] is the worker's bucket.
-- ARGV: lease id, worker, rate, burst, now.
-- Returns {wait, signed lease, engine, used digest, its receipt, accepted groups, excluded, newest}.
local wait = bucket(KEYS[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
if wait ~= 0 then
  return {wait}
end
local l = redis.call('HMGET', p .. 'lease:' .. ARGV[1], 'signed', 'engine', 'used')
local receipt = false
if l[3] then
  receipt = redis.call('HGET', p .. 'group:' .. l[3], 'receipt')
end
local w = redis.call('HMGET', p .. 'worker:' .. ARGV[2], 'accepted_groups', 'excluded')
return {'', l[1], l[2], l[3], receipt, w[1], w[2], redis.call('HGET', p .. 'state', 'newest')}
