-- Take blobs that something names out of KEYS[2]. ARGV: digests.
local key = KEYS[2]
for _, digest in ipairs(ARGV) do
  local bytes = redis.call('HGET', key, digest)
  if bytes then
    redis.call('HDEL', key, digest)
    redis.call('HINCRBY', key, 'all', '-' .. bytes)
  end
end
return 1
