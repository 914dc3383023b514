-- Publish the next policy and forget work that is now too old to train on.
-- ARGV: version, manifest JSON, max staleness, most events, event body, step record's digest.
-- Returns the newest version.
local version = tonumber(ARGV[1])
local newest = tonumber(redis.call('HGET', p .. 'state', 'newest') or '-1')
if version ~= newest + 1 then
  return newest
end
local oldest = version - tonumber(ARGV[3])
redis.call('HSET', p .. 'policies', version, ARGV[2])
redis.call('HSET', p .. 'lineage', version, ARGV[6])
redis.call('HSET', p .. 'state', 'newest', version, 'oldest', oldest)
redis.call('ZREMRANGEBYSCORE', p .. 'waiting', '-inf', '(' .. oldest)
for _, candidate in ipairs(redis.call('ZRANGE', p .. 'ready', 0, -1)) do
  if cjson.decode(candidate).policy_version < oldest then
    redis.call('ZREM', p .. 'ready', candidate)
  end
end
event(ARGV[4], 'policy', ARGV[5])
return version
