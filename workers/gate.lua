-- What the processes that speak to one host with one credential agree on, in one step. See workers/gate.py.
-- KEYS: the state, the leases (client -> "slots starving expires").
local state, leases = KEYS[1], KEYS[2]
local client, in_use, wanted, waiting = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local most, first, rate = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local well, strained, absent, waits = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local lease_ms, block_ms, reason = tonumber(ARGV[12]), tonumber(ARGV[13]), ARGV[14]
local CALM_MS, DOWN_COUNT, LONGEST_DOWN_MS, KEEP_MS = 1000, 3, 60000, 90000000

-- The server's own clock: those of the workers may differ.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local f = redis.call('HMGET', state, 'limit', 'is_seeking', 'changed_at', 'blocked_until', 'reason', 'absent', 'opened',
                     'tokens', 'tokens_at')
local is_new = not f[1]
local limit = math.min(most, tonumber(f[1] or first))
local is_seeking, changed_at = (f[2] or '1') == '1', tonumber(f[3] or now)
local blocked_until, why = tonumber(f[4] or 0), f[5] or ''
local absent_count, opened = tonumber(f[6] or 0), tonumber(f[7] or 0)

-- A host that several requests in a row did not reach is left alone, each time longer, and then asked by one request.
if well > 0 then
  absent_count, opened = 0, 0
elseif absent > 0 then
  absent_count = absent_count + absent
  if absent_count >= DOWN_COUNT and blocked_until <= now then
    opened = opened + 1
    blocked_until = now + math.min(LONGEST_DOWN_MS, 1000 * 2 ^ (opened - 1))
    why = 'it did not answer'
  end
end
-- The longest that was asked for counts.
if block_ms > 0 and now + block_ms > blocked_until then
  blocked_until, why = now + block_ms, reason
end

-- Halved at a sign of strain, at most once a second. Until the first such sign one more for each good answer, which
-- doubles it in each round; after it one more a second; and only where somebody waits.
if strained > 0 then
  if is_seeking or now - changed_at >= CALM_MS then
    limit, is_seeking, changed_at = math.max(1, limit / 2), false, now
  end
elseif well > 0 and waiting > 0 and limit < most then
  local more = is_seeking and well or math.min(well / limit, (now - changed_at) / CALM_MS)
  limit, changed_at = math.min(most, limit + math.max(0, more)), now
end
local slots = absent_count >= DOWN_COUNT and 1 or math.floor(limit)

-- Others' leases; those of processes that died run out.
local taken, clients, is_other_starving = 0, 1, false
local held = redis.call('HGETALL', leases)
for i = 1, #held, 2 do
  if held[i] ~= client then
    local size, starving, expires = string.match(held[i + 1], '(%d+) (%d) (%d+)')
    if tonumber(expires) <= now then
      redis.call('HDEL', leases, held[i])
    else
      taken, clients = taken + tonumber(size), clients + 1
      is_other_starving = is_other_starving or starving == '1'
    end
  end
end
local share = math.max(0, math.min(wanted, slots - taken))
if is_other_starving then
  share = math.min(share, math.ceil(slots / clients))
end
if wanted == 0 and in_use == 0 then
  redis.call('HDEL', leases, client)
else
  -- What is under way keeps its slots until it ends, though its process may begin no more than its share.
  redis.call('HSET', leases, client,
             string.format('%d %d %.0f', math.max(share, in_use), share < wanted and 1 or 0, now + lease_ms))
  redis.call('PEXPIRE', leases, lease_ms)
end

-- The budget of requests, a second's worth at most.
local given, token_ms = 0, 0
if rate > 0 then
  local tokens = math.min(math.max(1, rate), tonumber(f[8] or 1) + (now - tonumber(f[9] or now)) / 1000 * rate)
  given = math.min(math.floor(tokens), math.max(1, math.ceil(rate / 10)), wanted)
  tokens = tokens - given
  token_ms = math.ceil(math.max(0, 1 - tokens) / rate * 1000)
  redis.call('HSET', state, 'tokens', tokens, 'tokens_at', now)
end

redis.call('HSET', state, 'limit', limit, 'most', most, 'is_seeking', is_seeking and 1 or 0, 'changed_at', changed_at,
           'blocked_until', blocked_until, 'reason', why, 'absent', absent_count, 'opened', opened)
if waits > 0 then redis.call('HINCRBY', state, 'waits', waits) end
redis.call('PEXPIRE', state, KEEP_MS)
return {share, math.max(0, blocked_until - now), why, given, token_ms, is_new and 1 or 0}
