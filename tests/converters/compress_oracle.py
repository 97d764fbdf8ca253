"""The solver of csrc/compress in plain numpy, term by term in the order that its headers write down.

Every product and every sum is one float64 operation of numpy, so that results are compared to the byte.
"""

import math

import numpy as np


def gather_patches(image, group, groups, kernel, stride, dilation, pad, out, transposed=False):
    """Returns the patches of all output positions, [positions, channels of the group * taps]."""
    channels, height, width = image.shape
    each = channels // groups
    rows = []
    for y in range(out[0]):
        for x in range(out[1]):
            patch = []
            for c in range(group * each, (group + 1) * each):
                for ky in range(kernel[0]):
                    for kx in range(kernel[1]):
                        at = []
                        for o, k, axis in ((y, ky, 0), (x, kx, 1)):
                            if transposed:
                                reached = o + pad[axis] - k * dilation[axis]
                                inside = reached >= 0 and reached % stride[axis] == 0
                                at.append(reached // stride[axis] if inside else -1)
                            else:
                                at.append(o * stride[axis] + k * dilation[axis] - pad[axis])
                        inside = 0 <= at[0] < height and 0 <= at[1] < width
                        patch.append(image[c, at[0], at[1]] if inside else 0)
            rows.append(patch)
    return np.array(rows, np.float64).reshape(out[0] * out[1], -1)


def factorize(h, order, damping):
    """Returns A with H + d I = A^T A, lower triangular, its columns in ``order``."""
    depth = len(h)
    mean = 0.0
    for i in range(depth):
        mean += h[i, i]
    mean /= depth
    left = h[np.ix_(order, order)].copy()
    left[np.arange(depth), np.arange(depth)] += mean * damping if mean > 0 else 1.0
    a = np.zeros((depth, depth))
    for i in reversed(range(depth)):
        a[i, i] = math.sqrt(left[i, i])
        a[i, :i] = left[i, :i] / a[i, i]
        left[:i, :i] -= np.outer(a[i, :i], a[i, :i])
    return a


def encode(t, scale, low, high):
    return float(np.rint(min(max(t / scale, low), high)))


def look_ahead(a, weights, errors, i):
    """Returns t_i, given the errors of columns before i."""
    t = weights[i]
    for c in range(i):
        t = t + (a[i, c] / a[i, i]) * errors[c]
    return t


def look_ahead_all(a, weights, errors, begin, end):
    """Returns t of columns [begin, end) if none of them were decided."""
    errors = errors.copy()
    found = []
    for i in range(begin, end):
        found.append(look_ahead(a, weights, errors, i))
        errors[i] = weights[i] - found[-1]
    return found


def find_scale(a, begin, ahead, kept, low, high, parts):
    reach = 0.0
    for t, keep in zip(ahead, kept, strict=True):
        t = t if keep else 0.0
        reach = max(reach, t / high, t / low)
    best, chosen = math.inf, 1.0
    if reach == 0:
        return chosen
    for part in parts:
        scale = float(np.float32(reach * part))
        cost = 0.0
        for i, (t, keep) in enumerate(zip(ahead, kept, strict=True)):
            if keep:
                miss = a[begin + i, begin + i] * (t - encode(t, scale, low, high) * scale)
                cost += miss * miss
        if cost < best:
            best, chosen = cost, scale
    return chosen


def choose_blocks(a, begin, end, ahead, block, count):
    """Returns which elements of a domain stay, [rows, columns]; ``ahead`` is [rows][columns]."""
    tall, wide = block
    rows, columns = len(ahead), end - begin
    down, across = -(-rows // tall), -(-columns // wide)
    costs = np.zeros((down, across))
    for i in range(columns):
        first = i // wide * wide
        for r in range(rows):
            moved = ahead[r][i]
            for c in range(first, i):
                moved = moved + a[begin + i, begin + c] / a[begin + i, begin + i] * ahead[r][c]
            cost = a[begin + i, begin + i] * moved
            costs[r // tall, i // wide] += cost * cost
    ranks = sorted(range(down * across), key=lambda b: (-costs.reshape(-1)[b], b))
    keeps = np.zeros(down * across, bool)
    keeps[ranks[:count]] = True
    keeps = keeps.reshape(down, across)
    return np.array(
        [[keeps[r // tall, i // wide] for i in range(columns)] for r in range(rows)], bool
    )


def solve_columns(
    a,
    order,
    weights,
    *,
    kept=None,
    mask=None,
    scales=None,
    parts=(),
    group=None,
    low=-127,
    high=127,
):
    """Decides the columns of all rows in ``order``.

    ``mask``: None, ("count", rows, columns, window, count) or ("density", rows, columns, window, density).

    Returns:
        The weights, the codes, the scales, what is kept, and each row's cost.
    """
    rows, depth = weights.shape
    group = group or depth
    w = weights[:, order]
    rounds = scales is not None or len(parts) > 0
    kept = np.ones((rows, depth), bool) if kept is None else kept.astype(bool)
    scales = np.ones((rows, -(-depth // group))) if scales is None else scales.copy()
    errors = np.zeros((rows, depth))
    result, codes = np.zeros((rows, depth)), np.zeros((rows, depth))
    costs = np.zeros(rows)
    seen = taken = 0
    for i in range(depth):
        if mask is not None and i % mask[3] == 0:
            kind, tall, wide, window, amount = mask
            end = min(depth, i + window)
            ahead = [look_ahead_all(a, w[r], errors[r], i, end) for r in range(rows)]
            if kind == "count":
                for r in range(0, rows, tall):
                    part = slice(r, r + tall)
                    chosen = choose_blocks(a, i, end, ahead[part], (tall, wide), amount)
                    kept[part, order[i:end]] = chosen
            else:
                seen += -(-rows // tall) * -(-(end - i) // wide)
                total = int(amount * seen + 0.5)
                kept[:, order[i:end]] = choose_blocks(a, i, end, ahead, (tall, wide), total - taken)
                taken = total
        n = order[i]
        for r in range(rows):
            if len(parts) and i % group == 0:
                end = min(depth, i + group)
                ahead = look_ahead_all(a, w[r], errors[r], i, end)
                scales[r, i // group] = find_scale(
                    a, i, ahead, kept[r, order[i:end]], low, high, parts
                )
            t = look_ahead(a, w[r], errors[r], i)
            q = t
            if not kept[r, n]:
                q = 0.0
            elif rounds:
                codes[r, n] = encode(t, scales[r, n // group], low, high)
                q = codes[r, n] * scales[r, n // group]
            result[r, n] = q
            miss = a[i, i] * (t - q)
            costs[r] += miss * miss
            errors[r, i] = w[r, i] - q
    return result, codes, scales, kept, costs


def invert(h, damping):
    """Returns (H + d I)^-1 by sweeping."""
    depth = len(h)
    mean = 0.0
    for i in range(depth):
        mean += h[i, i]
    mean /= depth
    m = h.copy()
    m[np.arange(depth), np.arange(depth)] += mean * damping if mean > 0 else 1.0
    for p in range(depth):
        pivot = m[p, p]
        column, row = m[:, p].copy(), m[p] / pivot
        m -= np.outer(column, row)
        m[p] = row
        m[:, p] = column / pivot
        m[p, p] = -1.0 / pivot
    return -m


def solve_exactly(
    h, weights, *, kept=None, removed=0, scale=None, low=-127, high=127, damping=0.01
):
    """Decides one row, each time the weight that costs least."""
    depth = len(weights)
    m, w = invert(h, damping), weights.copy()
    left = list(range(depth))
    result, codes = np.zeros(depth), np.zeros(depth)
    cost = 0.0

    def close(c, q):
        nonlocal cost, m, w
        miss = w[c] - q
        cost += miss * miss / m[c, c]
        result[c] = q
        left.remove(c)
        step = m[c] / m[c, c]
        column = m[:, c].copy()
        column[[j for j in range(depth) if j not in left]] = 0.0
        m = m - np.outer(column, step)
        w = np.where(np.isin(np.arange(depth), left), w - miss * step, w)

    for _ in range(removed if kept is None else int((kept == 0).sum())):
        choices = [j for j in left if kept is None or kept[j] == 0]
        close(min(choices, key=lambda j: (w[j] * w[j] / m[j, j], j)), 0.0)
    while left and scale is not None:
        miss = {j: w[j] - encode(w[j], scale, low, high) * scale for j in left}
        c = min(left, key=lambda j: (-abs(miss[j]), j))
        if not abs(miss[c]) > scale * (0.5 + 1e-9):
            c = min(left, key=lambda j: (miss[j] * miss[j] / m[j, j], j))
        codes[c] = encode(w[c], scale, low, high)
        close(c, codes[c] * scale)
    for j in left:
        result[j] = w[j]
    return result, codes, cost


def find_block_cost(inner, own):
    """Returns what removing a block costs: M_BB [width, width], weights [rows, width]."""
    inner, own = inner.copy(), own.copy()
    sums = np.zeros(len(own))
    for c in range(len(inner)):
        root = math.sqrt(inner[c, c])
        pull = inner[c + 1 :, c] / root
        inner[c + 1 :, c + 1 :] -= np.outer(pull, pull)
        z = own[:, c] / root
        sums += z * z
        own[:, c + 1 :] -= np.outer(z, pull)
    total = 0.0
    for value in sums:
        total += float(value)
    return total


def order_removal(weights, inverse, rows, width, group, keep, alone=False):
    """Returns in which order blocks go and what each costs, [panels, steps], column by column of a whole M."""
    count, depth = weights.shape
    blocks = -(-depth // width)
    orders, costs = [], []
    for first in range(0, count, rows):
        m = np.eye(blocks * width)
        m[:depth, :depth] = inverse
        w = np.zeros((min(rows, count - first), blocks * width))
        w[:, :depth] = weights[first : first + rows]
        sizes = np.bincount(np.arange(blocks) // group)
        room = np.maximum(sizes - keep, 0)
        left, order, cost = list(range(blocks)), [], []
        place = lambda b: slice(b * width, (b + 1) * width)  # noqa: E731

        def price(block, m=m, w=w, place=place):
            return find_block_cost(m[place(block), place(block)], w[:, place(block)])

        prices = {block: price(block) for block in left}
        while room.sum():
            if not alone:
                prices = {block: price(block) for block in left}
            best = min((b for b in left if room[b // group]), key=lambda b: prices[b])
            order.append(best)
            cost.append(prices[best])
            room[best // group] -= 1
            left.remove(best)
            for c in range(best * width, (best + 1) * width) if not alone else ():
                root = math.sqrt(m[c, c])
                u, z = m[:, c] / root, w[:, c] / root
                m -= np.outer(u, u)
                w -= np.outer(z, u)
        orders.append(order)
        costs.append(cost)
    return np.array(orders, np.int64).reshape(len(orders), -1), np.array(costs).reshape(
        len(costs), -1
    )


def apply_zeros(weights, inverse, kept):
    """Returns weights that make up for those that go, and what each row loses; kept [rows, depth]."""
    found, costs = np.zeros(weights.shape), np.zeros(len(weights))
    for row, stays in enumerate(kept):
        m, w = inverse.copy(), weights[row].copy()
        for c in np.flatnonzero(~stays):
            root = math.sqrt(m[c, c])
            u, z = m[:, c] / root, w[c] / root
            costs[row] += z * z
            m -= np.outer(u, u)
            w -= z * u
        found[row, stays] = w[stays]
    return found, costs
