"""The kernel of :mod:`.policies`: one event loop for all functions and all policies, for either engine (:mod:`.engines`).

A slot is an environment. Idle slots of a function form a doubly linked list, the most recently used one at its top.
Stale entries of the heaps are known by the version of their slot or function and are left where they are.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

FIXED, HISTOGRAM, GREEDY_DUAL, LEAST_RECENT = range(4)
WARM, COLD, DROPPED = range(3)
# Kinds of events; of those at one moment, what frees comes first and what expires last.
_DEPART, _PREWARM, _EXPIRE = range(3)
# Rows of the counts and of the sums of a function.
_N_WARM, _N_COLD, _N_DROPPED, _N_PREWARM, _N_EVICTED = range(5)
_S_IDLE, _S_BUSY = range(2)


def serve(
    arrivals, function, service, start_up, memory, policy, limit, keep_alive, bins, minute, head, tail, margin,
    least_cv, standard, horizon, outcome, counts, sums,
):  # fmt: skip
    """Fill ``outcome`` (requests,), ``counts`` (5, functions) and ``sums`` (2, functions); return the peak of memory."""
    functions = memory.size
    top = np.full(functions, -1, np.int64)
    in_flight = np.zeros(functions, np.int64)
    uses = np.zeros(functions, np.int64)
    idle_since = np.full(functions, -1.0)
    idle_until = np.zeros(functions)
    idle_version = np.zeros(functions, np.int64)
    priority = np.zeros(functions)
    histogram = np.zeros((functions if policy == HISTOGRAM else 0, bins), np.int64)
    inside = np.zeros(functions, np.int64)
    beyond = np.zeros(functions, np.int64)

    owner, since, newer, older, version, used, spare = [0], [0.0], [-1], [-1], [0], [0], [0]
    events = [(0.0, 0, 0, 0)]
    events.pop()
    victims = [(0.0, 0.0, 0, 0)]
    victims.pop()
    held = busy = peak = clock = 0.0

    for index in range(arrivals.size + 1):
        now = arrivals[index] if index < arrivals.size else horizon
        while len(events) > 0:
            moment, kind, which, stamp = events[0]
            if moment > now or (moment == now and kind == _EXPIRE and index < arrivals.size):
                break
            heappop(events)
            slot, place = which, which
            if kind == _DEPART:
                place = owner[slot]
                sums[_S_BUSY, place] += (moment - since[slot]) * memory[place]
                busy -= memory[place]
                in_flight[place] -= 1
                until = moment + keep_alive
                if policy == HISTOGRAM:
                    # Seconds from now to pre-warming (0: do not unload) and to expiry.
                    prewarm, kept = 0.0, standard
                    total, squares = inside[place], 0.0
                    if total > 0 and beyond[place] <= total:
                        for count in histogram[place]:
                            squares += float(count) * float(count)
                        if bins * squares / (float(total) * float(total)) - 1.0 >= least_cv * least_cv:
                            cumulated, first, last = 0, -1, -1
                            for bin_ in range(bins):
                                cumulated += histogram[place, bin_]
                                if first < 0 and cumulated > 0 and cumulated * 100.0 >= head * total:
                                    first = bin_
                                if cumulated * 100.0 >= tail * total:
                                    last = bin_
                                    break
                            prewarm, kept = first * minute * (1.0 - margin), (last + 1) * minute * (1.0 + margin)
                    until = moment + kept
                    if in_flight[place] == 0:
                        idle_since[place], idle_until[place] = moment, until
                        if prewarm > 0.0:
                            # Unload this one and all that are idle; come back in time.
                            held -= memory[place]
                            version[slot] += 1
                            spare.append(slot)
                            while top[place] >= 0:
                                gone = top[place]
                                sums[_S_IDLE, place] += (moment - since[gone]) * memory[place]
                                top[place] = older[gone]
                                held -= memory[place]
                                version[gone] += 1
                                spare.append(gone)
                            heappush(events, (moment + prewarm, _PREWARM, place, idle_version[place]))
                            continue
            elif kind == _PREWARM:
                if stamp != idle_version[place]:
                    continue
                counts[_N_PREWARM, place] += 1
                if len(spare) == 0:
                    spare.append(len(owner))
                    owner.append(0)
                    since.append(0.0)
                    newer.append(-1)
                    older.append(-1)
                    version.append(0)
                    used.append(0)
                slot = spare.pop()
                owner[slot], used[slot] = place, 0
                held += memory[place]
                peak = max(peak, held)
                until = idle_until[place]
            else:
                if stamp != version[slot]:
                    continue
                place = owner[slot]
                sums[_S_IDLE, place] += (moment - since[slot]) * memory[place]
                if newer[slot] >= 0:
                    older[newer[slot]] = older[slot]
                else:
                    top[place] = older[slot]
                if older[slot] >= 0:
                    newer[older[slot]] = newer[slot]
                held -= memory[place]
                version[slot] += 1
                spare.append(slot)
                continue
            # The slot becomes idle, at the top of its function's list.
            since[slot] = moment
            newer[slot], older[slot] = -1, top[place]
            if top[place] >= 0:
                newer[top[place]] = slot
            top[place] = slot
            version[slot] += 1
            if policy == FIXED or policy == HISTOGRAM:
                heappush(events, (until, _EXPIRE, slot, version[slot]))
            else:
                key = priority[place] if policy == GREEDY_DUAL else moment
                heappush(victims, (key, moment, slot, version[slot]))
        if index == arrivals.size:
            break

        place = function[index]
        if policy == HISTOGRAM:
            idle_version[place] += 1
            if in_flight[place] == 0 and idle_since[place] >= 0.0:
                bin_ = int((now - idle_since[place]) // minute)
                if bin_ < bins:
                    histogram[place, bin_] += 1
                    inside[place] += 1
                else:
                    beyond[place] += 1
        slot = top[place]
        if slot >= 0:
            sums[_S_IDLE, place] += (now - since[slot]) * memory[place]
            top[place] = older[slot]
            if older[slot] >= 0:
                newer[older[slot]] = -1
            version[slot] += 1
            outcome[index] = WARM
            counts[_N_WARM, place] += 1
            end = now + service[index]
        else:
            if busy + memory[place] > limit:
                outcome[index] = DROPPED
                counts[_N_DROPPED, place] += 1
                continue
            while held + memory[place] > limit:
                key, _, gone, stamp = heappop(victims)
                if stamp != version[gone]:
                    continue
                other = owner[gone]
                clock = key
                sums[_S_IDLE, other] += (now - since[gone]) * memory[other]
                if newer[gone] >= 0:
                    older[newer[gone]] = older[gone]
                else:
                    top[other] = older[gone]
                if older[gone] >= 0:
                    newer[older[gone]] = newer[gone]
                held -= memory[other]
                uses[other] -= used[gone]
                counts[_N_EVICTED, other] += 1
                version[gone] += 1
                spare.append(gone)
            if len(spare) == 0:
                spare.append(len(owner))
                owner.append(0)
                since.append(0.0)
                newer.append(-1)
                older.append(-1)
                version.append(0)
                used.append(0)
            slot = spare.pop()
            owner[slot], used[slot] = place, 0
            held += memory[place]
            outcome[index] = COLD
            counts[_N_COLD, place] += 1
            end = now + start_up[place] + service[index]
        since[slot] = now
        busy += memory[place]
        in_flight[place] += 1
        peak = max(peak, held)
        used[slot] += 1
        uses[place] += 1
        if policy == GREEDY_DUAL:
            priority[place] = clock + uses[place] * start_up[place] / memory[place]
            other = top[place]
            while other >= 0:
                version[other] += 1
                heappush(victims, (priority[place], since[other], other, version[other]))
                other = older[other]
        heappush(events, (end, _DEPART, slot, 0))

    for place in range(functions):
        slot = top[place]
        while slot >= 0:
            sums[_S_IDLE, place] += (horizon - since[slot]) * memory[place]
            slot = older[slot]
    for _, kind, slot, _ in events:
        if kind == _DEPART:
            sums[_S_BUSY, owner[slot]] += (horizon - since[slot]) * memory[owner[slot]]
    return peak
