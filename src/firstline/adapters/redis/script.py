"""What runs inside Redis, so that several replicas count as one.

The counts of an account in one catalogue are one hash. `e` names its life: it is set with the counts from the ledger,
and another one means that the hash was lost meanwhile, or that the ledger knew of requests that it did not, so that
nobody may add those once more. `t` is the second until which a window may have been used before the hash was made; a
later window that is missing was used by nobody. `h1795003200` is the hour that began then, and so on; `sREPLICA` is the
last settlement of a replica.

One call takes any number of entries, each for a hash (KEYS) with numbers and names (ARGV):

    c n now_s nb (field start_s limit)*n [epoch t (field start_s count)*nb]   count one request if it fits every window
    u                                       the same arguments               how far the windows are used
    f n epoch field*n                                                        give back what was counted in a life
    s n epoch replica number (field start_s delta)*n                         add what was granted elsewhere, once
    r n epoch t (field start_s count)*n                                      raise to what the ledger knows

`c` and `u` answer code, epoch, uses (n); all others one code. The answer begins with 1 and the time of Redis in
microseconds, or with 0 and the time when it is past the deadline (ARGV[1], 0 for none), and then nothing was done.
"""

from typing import Final

DENIED: Final = 0
DONE: Final = 1
MISSING: Final = 2
OTHER_LIFE: Final = 3

KEEP_S: Final = 90_000
"""A hash lives so long after it was last used."""

SKEW_S: Final = 5
"""How much the clocks of replicas may differ for windows that begin when a hash is made."""

LIMITS: Final = (
    """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local deadline = tonumber(ARGV[1])
if deadline > 0 and now > deadline then return {0, now} end
local out, o, a = {1, now}, 3, 2
local widths = {m = 60, h = 3600, d = 86400, M = 2678400}

local function tidy(key, now_s)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local letter, start = string.match(field, '^([mhdM])(%d+)$')
    if letter and tonumber(start) + 2 * widths[letter] < now_s then redis.call('HDEL', key, field) end
  end
  redis.call('EXPIRE', key, """
    + str(KEEP_S)
    + """)
end

local function raise(key, first, count)
  local t, fresh, changed = tonumber(redis.call('HGET', key, 't')), false, false
  if not t then
    t, fresh = tonumber(ARGV[first + 1]), true
    redis.call('HSET', key, 'e', ARGV[first], 't', ARGV[first + 1])
  end
  for w = first + 2, first + 3 * count - 1, 3 do
    local field, start, known = ARGV[w], tonumber(ARGV[w + 1]), tonumber(ARGV[w + 2])
    local used = tonumber(redis.call('HGET', key, field) or '-1')
    if string.sub(field, 1, 1) == 'm' then redis.call('HSETNX', key, field, known)
    elseif known > math.max(used, 0) or (used < 0 and start < t) then
      redis.call('HSET', key, field, known)
      changed = changed or used >= 0 or start >= t
    end
  end
  if changed and not fresh then redis.call('HSET', key, 'e', ARGV[first]) end
  redis.call('EXPIRE', key, """
    + str(KEEP_S)
    + """)
end

for i = 1, #KEYS do
  local key, kind, n = KEYS[i], ARGV[a], tonumber(ARGV[a + 1])
  if kind == 'c' or kind == 'u' then
    local now_s, nb, w = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), a + 4
    a = w + 3 * n
    if nb > 0 then
      raise(key, a, nb)
      a = a + 2 + 3 * nb
    end
    local names = {'e', 't'}
    for j = 0, n - 1 do names[j + 3] = ARGV[w + 3 * j] end
    local found = redis.call('HMGET', key, unpack(names))
    local t, code = tonumber(found[2] or '1e18'), 1
    for j = 0, n - 1 do
      local used = found[j + 3]
      if used then used = tonumber(used)
      else
        if tonumber(ARGV[w + 3 * j + 1]) < t then code = 2 end
        used = 0
      end
      if code == 1 and used >= tonumber(ARGV[w + 3 * j + 2]) then code = 0 end
      out[o + 2 + j] = used
    end
    if code == 1 and kind == 'c' then
      local set = {}
      for j = 0, n - 1 do
        local used = out[o + 2 + j] + 1
        out[o + 2 + j] = used
        set[2 * j + 1], set[2 * j + 2] = names[j + 3], used
      end
      redis.call('HSET', key, unpack(set))
      if not found[3] then tidy(key, now_s) end
    end
    if kind == 'u' and code == 0 then code = 1 end
    out[o], out[o + 1] = code, tonumber(found[1] or '0')
    o = o + 2 + n
  else
    local life, code = redis.call('HGET', key, 'e'), 1
    if kind == 'f' then
      if life == ARGV[a + 2] then
        for j = 1, n do
          local used = redis.call('HGET', key, ARGV[a + 2 + j])
          if used and tonumber(used) > 0 then redis.call('HINCRBY', key, ARGV[a + 2 + j], -1) end
        end
      end
      a = a + 3 + n
    elseif kind == 's' then
      local token = 's' .. ARGV[a + 3]
      if not life then code = 2
      elseif life ~= ARGV[a + 2] then code = 3
      elseif tonumber(redis.call('HGET', key, token) or '0') < tonumber(ARGV[a + 4]) then
        local t = tonumber(redis.call('HGET', key, 't'))
        redis.call('HSET', key, token, ARGV[a + 4])
        for j = 0, n - 1 do
          local w = a + 5 + 3 * j
          local used = redis.call('HGET', key, ARGV[w])
          if used or tonumber(ARGV[w + 1]) >= t then
            redis.call('HSET', key, ARGV[w], math.max(tonumber(used or '0') + tonumber(ARGV[w + 2]), 0))
          end
        end
      end
      a = a + 5 + 3 * n
    else
      raise(key, a + 2, n)
      a = a + 4 + 3 * n
    end
    out[o] = code
    o = o + 1
  end
end
return out
"""
)

HEARTBEAT: Final = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""
