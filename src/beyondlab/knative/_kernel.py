"""The kernel of :mod:`.model`: one revision's pods, requests and autoscaler, event by event. Compiled where numba is."""

from __future__ import annotations

import math
from heapq import heappop, heappush

import numpy as np

KPA, HPA, FIXED = range(3)
NONE, STARTING, READY, DRAINING = range(4)
DIRECT, QUEUED, COLD = range(3)


def simulate(arrivals, service, settings, waits, outcome, ticks):
    """Fill ``waits`` and ``outcome``, and ``ticks`` (rows: time, ready, alive, stable, panic, desired) while rows last.

    ``settings``: see :func:`beyondlab.knative.model.simulate`, which packs them. Returns pod-seconds, pods started,
    the most pods at once, rows of ``ticks`` filled, seconds until the end.
    """
    policy = int(settings[0])
    target, limit, start = settings[1], settings[2], settings[3]
    window, panic_window = int(settings[4]), int(settings[5])
    threshold, up, down = settings[6], settings[7], settings[8]
    grace, least, most = settings[9], int(settings[10]), int(settings[11])
    tick, tolerance, calm, initial = settings[12], settings[13], settings[14], int(settings[15])
    horizon, activation, delay = settings[16], int(settings[17]), settings[18]

    pods = most if most > 0 else 4096
    state = np.zeros(pods, np.int64)
    busy = np.zeros(pods, np.int64)
    ready_at = np.zeros(pods)
    born = np.zeros(pods)
    ring = np.zeros(window)
    total = 0.0
    memory = np.zeros((4096, 2))
    remembered = 0
    heap = [(0.0, 0)]
    heappop(heap)

    now, last, pod_seconds = 0.0, 0.0, 0.0
    head, coming, inside = 0, 0, 0
    alive, started, peak, rows = 0, 0, 0, 0
    first_bucket, filled = -1, -1
    panic_since, most_in_panic, zero_since = -1.0, 0, -1.0
    next_tick = tick
    for pod in range(max(initial, least)):
        state[pod], ready_at[pod], born[pod] = READY, 0.0, 0.0
        alive += 1
        started += 1
    peak = alive
    high = alive
    active_since = 0.0
    count = arrivals.size

    while True:
        waiting = coming - head
        asleep = alive == 0 and waiting == 0 and inside == 0
        if coming >= count and waiting == 0 and inside == 0 and (now >= horizon or asleep):
            break
        # The next thing that happens: 0 arrival, 1 completion, 2 a pod is ready, 3 a tick.
        moment, what, who = math.inf, -1, -1
        if coming < count:
            moment, what = arrivals[coming], 0
        if len(heap) > 0 and heap[0][0] < moment:
            moment, what = heap[0][0], 1
        for pod in range(high):
            if state[pod] == STARTING and ready_at[pod] < moment:
                moment, what, who = ready_at[pod], 2, pod
        if asleep:
            next_tick = (math.floor(moment / tick) + 1) * tick
        elif next_tick <= moment:
            moment, what = next_tick, 3
        # What was in flight until then, second by second.
        load = waiting + inside
        if not asleep or load > 0:
            begin = last
            while begin < moment:
                bucket = int(math.floor(begin))
                if bucket != filled:
                    if filled < 0 or bucket - filled >= window:
                        first_bucket = bucket
                        ring[:] = 0.0
                        total = 0.0
                    else:
                        for skipped in range(filled + 1, bucket + 1):
                            total -= ring[skipped % window]
                            ring[skipped % window] = 0.0
                    filled = bucket
                end = min(moment, bucket + 1.0)
                ring[bucket % window] += load * (end - begin)
                total += load * (end - begin)
                begin = end
        last = now = moment

        poked = False
        if what == 0:
            outcome[coming] = DIRECT
            serving = False
            for pod in range(high):
                if state[pod] == READY:
                    serving = True
                    break
            if not serving:
                outcome[coming] = COLD
            poked = alive == 0 and policy == KPA
            coming += 1
        elif what == 1:
            _, pod = heappop(heap)
            busy[pod] -= 1
            inside -= 1
            if state[pod] == DRAINING and busy[pod] == 0:
                state[pod] = NONE
                pod_seconds += now - born[pod]
        elif what == 2:
            state[who] = READY
            ready = 0
            for pod in range(high):
                if state[pod] == READY:
                    ready += 1
            if ready == 1:
                active_since = now

        # Whoever waits longest goes first, to the first pod with a place (limit 3 or less) or the least busy one.
        while coming - head > 0:
            pick = -1
            for pod in range(high):
                if state[pod] == READY and (limit == 0 or busy[pod] < limit):
                    if pick < 0 or busy[pod] < busy[pick]:
                        pick = pod
                    if 0 < limit <= 3:
                        break
            if pick < 0:
                break
            waits[head] = now - arrivals[head]
            if waits[head] > 0 and outcome[head] == DIRECT:
                outcome[head] = QUEUED
            busy[pick] += 1
            inside += 1
            heappush(heap, (now + service[head], pick))
            head += 1

        if what == 3 or poked:
            ready = 0
            for pod in range(high):
                if state[pod] == READY:
                    ready += 1
            done = int(math.floor(now)) - 1
            stable, urgent = 0.0, 0.0
            if poked:
                stable = urgent = 1.0
            elif filled >= 0 and done >= first_bucket:
                span = min(window, done - first_bucket + 1)
                short = min(panic_window, done - first_bucket + 1)
                stable = total
                for back in range(short):
                    if done - back <= filled:
                        urgent += ring[(done - back) % window]
                stable = math.floor(stable / span * 1e6) / 1e6
                urgent = math.floor(urgent / short * 1e6) / 1e6
            desired = alive
            if policy == KPA:
                base = max(1, ready)
                ceiling, floor = math.ceil(up * base), math.floor(base / down)
                wanted, wanted_now = math.ceil(stable / target), math.ceil(urgent / target)
                steady = int(min(max(wanted, floor), ceiling))
                fast = int(min(max(wanted_now, floor), ceiling))
                if activation > 1:
                    steady = max(steady, activation) if wanted > 0 else steady
                    fast = max(fast, activation) if wanted_now > 0 else fast
                if wanted_now / base >= threshold:
                    panic_since = now
                elif panic_since >= 0 and now > panic_since + window:
                    panic_since, most_in_panic = -1.0, 0
                desired = steady
                if panic_since >= 0:
                    most_in_panic = max(most_in_panic, steady, fast)
                    desired = most_in_panic
                calm = delay
            elif policy == HPA:
                ratio = urgent / max(1, ready) / target
                if abs(ratio - 1) > tolerance:
                    desired = int(math.ceil(max(1, ready) * ratio - 1e-9))
                    desired = min(desired, max(alive + 4, 2 * alive))
                desired = max(1, desired)
            if policy != FIXED and calm > 0:
                memory[remembered % 4096, 0], memory[remembered % 4096, 1] = now, desired
                remembered += 1
                for back in range(1, min(remembered, 4096)):
                    place = (remembered - 1 - back) % 4096
                    if memory[place, 0] <= now - calm:
                        break
                    desired = max(desired, int(memory[place, 1]))
            desired = max(desired, least)
            if most > 0:
                desired = min(desired, most)
            if desired == 0 and alive > 0:
                if zero_since < 0 and now - active_since >= window:
                    zero_since = now
                if zero_since < 0 or now < zero_since + grace:
                    desired = 1
            elif desired > 0:
                zero_since = -1.0
            if rows < ticks.shape[0]:
                ticks[rows, 0], ticks[rows, 1], ticks[rows, 2] = now, ready, alive
                ticks[rows, 3], ticks[rows, 4], ticks[rows, 5] = stable, urgent, desired
                rows += 1
            while alive < desired:
                slot = 0
                while slot < high and state[slot] != NONE:
                    slot += 1
                if slot == pods:
                    break
                high = max(high, slot + 1)
                state[slot], busy[slot], born[slot], ready_at[slot] = STARTING, 0, now, now + start
                alive += 1
                started += 1
            while alive > desired:
                pick = -1
                for pod in range(high - 1, -1, -1):
                    if state[pod] == STARTING or (state[pod] == READY and (pick < 0 or busy[pod] < busy[pick])):
                        pick = pod
                        if state[pod] == STARTING:
                            break
                alive -= 1
                if busy[pick] == 0:
                    state[pick] = NONE
                    pod_seconds += now - born[pick]
                else:
                    state[pick] = DRAINING
            peak = max(peak, alive)
            if what == 3:
                next_tick += tick
    for pod in range(high):
        if state[pod] != NONE:
            pod_seconds += now - born[pod]
    return pod_seconds, started, peak, rows, now
