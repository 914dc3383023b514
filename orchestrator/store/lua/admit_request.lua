-- Take one token from the bucket KEYS[2]. ARGV: rate, burst, now.
return bucket(KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]))
