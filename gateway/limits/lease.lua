-- Takes permits for requests that a gateway expects: as many requests and tokens from the buckets of the key and its
-- tenant, or none. None are given that would leave a bucket less than half full: near a limit each request is counted
-- by itself, wherever it arrives.
--
-- KEYS     buckets of the key; of the tenant, where it has any
-- ARGV[1]  packed doubles: requests and tokens a minute and burst of the key, of the tenant (0: none)
-- ARGV[2]  requests   ARGV[3] tokens
-- Returns  {1 if they were given, now in ms, requests and tokens left of the key, of the tenant}

local key_rpm, key_tpm, key_burst, tenant_rpm, tenant_tpm, tenant_burst = struct.unpack("<dddddd", ARGV[1])
local wanted_requests, wanted_tokens = tonumber(ARGV[2]), tonumber(ARGV[3])
local owners = { { KEYS[1], key_rpm, key_tpm, key_burst } }
if tenant_rpm > 0 then
  owners[2] = { KEYS[2], tenant_rpm, tenant_tpm, tenant_burst }
end

local given, states, left = 1, {}, { 0, 0, 0, 0 }
for index, owner in ipairs(owners) do
  local name, rpm, tpm, burst = unpack(owner)
  local requests, tokens, most, this_minute, last_minute = read_buckets(name, rpm, tpm, burst)
  if requests - wanted_requests < rpm * burst / 2 or tokens - wanted_tokens < tpm * burst / 2 then
    given = 0
  end
  states[index] = { name, tpm, requests - wanted_requests, tokens - wanted_tokens, most, this_minute + wanted_tokens,
    last_minute }
  left[2 * index - 1], left[2 * index] = floor(requests - wanted_requests), floor(tokens - wanted_tokens)
end
if given == 1 then
  for _, state in ipairs(states) do
    write_buckets(unpack(state))
  end
end
return { given, now_ms, unpack(left) }
