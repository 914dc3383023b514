-- Answer several reads at one moment. ARGV: the reads, in MessagePack. Returns {digest of the answers, answers}.
local answers = answers_of(ARGV[1])
return {redis.sha1hex(cmsgpack.pack(answers)), answers}
