"""Plain, slow twins of what the package does fast: one image, one class, one crop at a time.

Written from the method's description with PyTorch's own attention modules and
OpenCV's contours; all maps of all layers are kept.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F


def block(layer, x, mask=None):
    """One block through nn.MultiheadAttention; returns its output and its attention map."""
    y = layer.ln_1(x)
    out, weights = layer.attn(y, y, y, need_weights=True, attn_mask=mask)
    x = x + layer.ls_1(out)
    return x + layer.ls_2(layer.mlp(layer.ln_2(x))), weights


def embed(visual, image, grid):
    """Tokens of one image ``(1, 3, H, W)`` with positions resized to the grid."""
    x = visual.conv1(image).flatten(2).transpose(1, 2)
    positions = visual.positional_embedding
    if grid != tuple(visual.grid_size):
        side = visual.grid_size
        square = positions[1:].T.reshape(1, -1, *side)
        square = F.interpolate(square, size=grid, mode='bilinear', align_corners=False)
        positions = torch.cat([positions[:1], square.flatten(2)[0].T])
    x = torch.cat([visual.class_embedding.expand(1, 1, -1), x], dim=1) + positions
    return visual.ln_pre(x)


@torch.no_grad()
def dense(visual, image):
    """Dense features of one image: patches (N, D), class token (D,), maps (L, N, N), grid."""
    patch = visual.patch_size[0]
    grid = (image.shape[2] // patch, image.shape[3] // patch)
    x = embed(visual, image, grid)
    maps = []
    blocks = list(visual.transformer.resblocks)
    for layer in blocks[:-1]:
        x, weights = block(layer, x)
        maps.append(weights[0, 1:, 1:])
    maps.append(block(blocks[-1], x)[1][0, 1:, 1:])
    itself = torch.full((x.shape[1], x.shape[1]), -100.0).fill_diagonal_(0)
    x, _ = block(blocks[-1], x, itself)
    tokens = F.normalize(visual.ln_post(x[0]) @ visual.proj, dim=-1)
    return tokens[1:], tokens[0], torch.stack(maps), grid


@torch.no_grad()
def class_token(visual, image, patches=None):
    """Plain CLIP's class token (D,); ``patches`` (N,) bool are those that it may look at."""
    patch = visual.patch_size[0]
    x = embed(visual, image, (image.shape[2] // patch, image.shape[3] // patch))
    mask = None
    if patches is not None:
        mask = torch.zeros(x.shape[1], x.shape[1])
        mask[0, 1:][~patches] = -1000
    for layer in visual.transformer.resblocks:
        x, _ = block(layer, x, mask)
    return F.normalize(visual.ln_post(x[0, 0]) @ visual.proj, dim=-1)


def votes(maps):
    """Number of maps (L, N, N) above their own mean, (N, N)."""
    return sum((one > one.mean()).int() for one in maps)


def box_mask(score_map):
    """Union of the boxes of the contours of one map (h, w) in [0, 1], as published."""
    height, width = score_map.shape
    quantised = (score_map * 255).astype(np.uint8)
    limit = int(score_map.mean() * quantised.max())
    _, binary = cv2.threshold(quantised, limit, 255, cv2.THRESH_BINARY)
    contours = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[-2]
    mask = np.zeros((height, width), dtype=np.float32)
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        mask[y : min(y + h, height - 1), x : min(x + w, width - 1)] = 1
    return mask


def dmar(scores, maps, layers, minimum, grid):
    """DMAR of one image, class by class; grids of at least 2x2 and no constant maps."""
    attention = torch.stack([maps[layer] for layer in layers]).mean(0) * (votes(maps) >= minimum)
    refined = torch.zeros_like(scores)
    for c in range(scores.shape[1]):
        first = attention @ scores[:, c]
        scaled = (first - first.min()) / (first.max() - first.min())
        mask = torch.from_numpy(box_mask(scaled.reshape(grid).numpy())).flatten()
        refined[:, c] = (attention * mask[None]) @ scores[:, c]
    return refined


def cwr(visual, scale, text, refined, scores, grid, image, threshold, stop):
    """CWR of one image, crop by crop; returns new scores (F,)."""
    patch = visual.patch_size[0]
    limit = refined.min() + threshold * (refined.max() - refined.min())
    new = scores.clone()
    for c in range(len(scores)):
        if scores[c] <= limit:
            continue
        column = refined[:, c]
        mask = ((column - column.min()) / (column.max() - column.min()) > 0.5).reshape(grid)
        ys, xs = np.where(mask.numpy())
        top, left = ys.min(), xs.min()
        bottom, right = min(ys.max() + 1, grid[0] - 1), min(xs.max() + 1, grid[1] - 1)
        if top >= bottom or left >= right:
            if stop:
                return new
            continue
        crop = image[:, :, top * patch : bottom * patch, left * patch : right * patch]
        crop = F.interpolate(crop, size=visual.image_size, mode='bilinear', align_corners=False)
        region = mask[None, None, top:bottom, left:right].float()
        region = F.interpolate(region, size=visual.grid_size, mode='nearest').flatten().bool()
        probability = (scale * class_token(visual, crop, region) @ text.T).softmax(-1)
        new[c] = 0.5 * scores[c] + 0.5 * probability[c]
    return new


@torch.no_grad()
def text_feature(clip, tokenizer, name, templates):
    """Text feature (D,) of one name, every prompt padded to the full context."""
    tokens = tokenizer([template.format(name) for template in templates])
    features = F.normalize(clip.encode_text(tokens), dim=-1)
    return F.normalize(features.mean(0), dim=-1)


def cam(visual, scale, last_input, text, tag):
    """Raw CAM (N,) of one tag by explicit autograd through torch's own attention."""
    layer = visual.transformer.resblocks[-1]
    activation = layer.ln_1(last_input).detach().requires_grad_()
    x = last_input + layer.attn(activation, activation, activation, need_weights=True)[0]
    x = x + layer.mlp(layer.ln_2(x))
    feature = F.normalize(visual.ln_post(x)[0, 1:].mean(0) @ visual.proj, dim=-1)
    probability = (scale * feature @ text.T).softmax(-1)[tag]
    (gradient,) = torch.autograd.grad(probability, activation)
    return (activation[0, 1:] @ gradient[0, 1:].mean(0)).relu().detach()


def scale_cam(one):
    one = one - one.min()
    return one / (1e-7 + one.max())


def refine_cam(one, attention, grid, threshold):
    """Affinity refinement of one CAM (N,) with the whole squared affinity."""
    affinity = attention.clone()
    for _ in range(3):
        affinity = affinity / affinity.sum(0, keepdim=True)
        affinity = affinity / affinity.sum(1, keepdim=True)
    affinity = (affinity + affinity.T) / 2
    affinity = affinity @ affinity
    quantised = (one.reshape(grid).numpy() * 255).astype(np.uint8)
    _, binary = cv2.threshold(quantised, int(threshold * quantised.max()), 255, cv2.THRESH_BINARY)
    contours = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[-2]
    mask = torch.zeros(grid)
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        mask[y : min(y + h, grid[0] - 1), x : min(x + w, grid[1] - 1)] = 1
    return scale_cam((affinity * mask.flatten()[None]) @ one)


def heads(layer, x):
    """Queries, keys and values of a block for one image (1+N, width), each (heads, 1+N, d)."""
    y = F.linear(layer.ln_1(x), layer.attn.in_proj_weight, layer.attn.in_proj_bias)
    return y.view(len(x), 3, layer.attn.num_heads, -1).permute(1, 2, 0, 3)


def softmax_map(a, b, bias=0.0):
    return (a @ b.transpose(1, 2) * a.shape[-1] ** -0.5 + bias).softmax(-1)


def csa(layer, x):
    q, k, _ = heads(layer, x)
    return softmax_map(q, q) + softmax_map(k, k)


@torch.no_grad()
def last_block(policy, visual, x, outputs, grid, **options):
    """Output (1+N, width) of block L-1 under a policy, with all its maps, for one image.

    ``x`` is the block's input (1+N, width), ``outputs`` those of all blocks.
    """
    layer = visual.transformer.resblocks[-1]
    q, k, v = heads(layer, x)
    count = len(x)
    if policy == 'ordinary':
        attention = softmax_map(q, k)
    elif policy == 'selfonly':
        attention = torch.eye(count).expand(len(v), -1, -1)
    elif policy == 'sclip':
        attention = csa(layer, x)
    elif policy == 'clearclip':
        attention = softmax_map(q, q)
    elif policy == 'naclip':
        bias = torch.zeros(count, count)
        places = [(i // grid[1], i % grid[1]) for i in range(count - 1)]
        for i, (y1, x1) in enumerate(places):
            for j, (y2, x2) in enumerate(places):
                distance = (y1 - y2) ** 2 + (x1 - x2) ** 2
                bias[1 + i, 1 + j] = np.exp(-distance / (2 * options.get('std', 5.0) ** 2))
        attention = softmax_map(k, k, bias)
    elif policy == 'itaclip':
        maps = [csa(visual.transformer.resblocks[i], outputs[i - 1]) for i in options['layers']]
        attention = csa(layer, x) / 2 + torch.stack(maps).mean(0) / 2
    elif policy == 'radseg':
        out = layer.attn.out_proj((softmax_map(q, k) @ v).transpose(0, 1).flatten(1))
        attention = torch.stack([alike(10 * cosine_map(head)) for head in out.chunk(len(v), -1)])
    elif policy == 'svc':
        y = outputs[-5]
        for index in range(-5, 0):
            layer, x = visual.transformer.resblocks[index], [*outputs, x][index - 1]
            parts = heads(layer, x)
            attention = sum(softmax_map(one, one).sum(0) for one in parts) / 3
            y = y + layer.attn.out_proj((attention @ parts[2]).transpose(0, 1).flatten(1))
        return torch.cat([block(layer, x[None])[0][0, :1], y[1:]])
    elif policy == 'scclip':
        return torch.cat([x[:1], sc_clip(layer, x, outputs, grid, **options)])
    else:
        raise KeyError(f'the last block {policy!r} has no plain twin yet: write it here')
    y = layer.attn.out_proj((attention @ v).transpose(0, 1).flatten(1))
    if policy in ('ordinary', 'selfonly', 'sclip', 'itaclip', 'radseg'):
        y = x + y
    whole = ('ordinary', 'selfonly', 'sclip', 'radseg')
    return y + layer.mlp(layer.ln_2(y)) if policy in whole else y


def cosine_map(tokens):
    """Cosines (n, n) of tokens (n, width)."""
    unit = tokens / tokens.norm(dim=-1, keepdim=True)
    return unit @ unit.T


def alike(logits):
    """RADSeg's weights: softmax over what is not negative, row by row."""
    rows = [torch.where(row < 0, 0, row.exp()) for row in logits]
    return torch.stack([row / row.sum() for row in rows])


def radseg_aggregation(tokens):
    """Patches of one image (1+N, width), averaged over those that are alike."""
    cosines = cosine_map(tokens[1:])
    weights = alike(10 * (cosines - cosines.mean()))
    return torch.cat([tokens[:1], weights @ tokens[1:]])


def outliers(patches):
    """Indices of SC-CLIP's outliers among one image's patches; needs more than 30 others."""
    count = len(patches)
    if count <= 31:
        return set()
    distance = (patches[:, None] - patches[None]).square().sum(-1)
    near = [[j for j in distance[i].argsort().tolist() if j != i][:30] for i in range(count)]
    reach = [distance[i, near[i][-1]].item() for i in range(count)]
    factor = np.array([np.mean([reach[i] / reach[j] for j in near[i]]) for i in range(count)])
    return {i for i in range(count) if factor[i] > np.quantile(factor, 0.95)}


def sc_clip(
    layer,
    x,
    outputs,
    grid,
    similarity_layer=8,
    output_layer=3,
    fusion_layers=(3, 4, 5, 6, 7, 8, 9),
    weight=0.3,
):
    """SC-CLIP's patches (N, width) of one image, step by step."""
    bad = outliers(x[1:])

    def mend(patches):
        mended = patches.clone()
        for i in bad:
            row, column = divmod(i, grid[1])
            around = [
                r * grid[1] + c
                for r in range(row - 1, row + 2)
                for c in range(column - 1, column + 2)
                if 0 <= r < grid[0] and 0 <= c < grid[1]
            ]
            sound = [j for j in around if j not in bad]
            if sound:
                mended[i] = patches[sound].mean(0)
        return mended

    def cosines(patches):
        unit = patches / patches.norm(dim=-1, keepdim=True)
        return unit @ unit.T

    def gather(similarity, y):
        kept = similarity * (similarity >= 0.4)
        return kept / (kept.sum(-1, keepdim=True) + 1e-6) @ y

    def attention(y):
        _, k, v = heads(layer, y)
        logits = 3 * (similarity - similarity.mean())
        logits[logits < 0] = -torch.inf
        both = (logits.softmax(-1) + softmax_map(k, k)) / 2
        return layer.attn.out_proj((both @ v).transpose(0, 1).flatten(1))

    similarity = cosines(mend(outputs[similarity_layer][1:]))
    a = attention(gather(similarity, mend(x[1:]))) + weight * x[0]
    total = sum(outputs[i] for i in fusion_layers)
    b = attention(total[1:]) + weight * total[0]
    alike = cosines(outputs[output_layer][1:])
    return gather(alike, a) + gather(alike, b)


def piaa(patches, text, size, temperature, keep_emptied):
    """PIAA's weights (D, C) and bias (C,) from all patches at once; None if too few are left."""
    classes, dim = text.shape

    def fit(chosen):
        """``chosen`` is a list of (vector, label, probability of the label)."""
        means = []
        for c in range(classes):
            mine = [(p * v, p) for v, label, p in chosen if label == c]
            means.append(sum(v for v, _ in mine) / sum(p for _, p in mine) if mine else text[c])
        residual = torch.stack([v - means[label] for v, label, _ in chosen]).double()
        residual = residual - residual.mean(0)
        scatter = residual.T @ residual
        ridge = scatter.trace() / (len(chosen) - 1) * torch.eye(dim)
        precision = dim * torch.linalg.inv(scatter + ridge)
        means = torch.stack(means).double()
        bias = -np.log(classes) - 0.5 * torch.einsum('cd,de,ce->c', means, precision, means)
        return (precision @ means.T).float(), bias.float()

    p = (60 * patches @ text.T).softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    bank = []
    for c in range(classes):
        won = [i for i in entropy.argsort().tolist() if p[i].argmax() == c][:size]
        bank += [(i, c) for i in won]
    weight, bias = fit([(patches[i], c, p[i, c]) for i, c in bank])
    g = patches @ weight + bias
    p = (temperature * g).softmax(-1)
    kept = []
    for c in range(classes):
        mine = [i for i, _ in bank if g[i].argmax() == c]
        own = p[mine, c]
        limit = own.mean() + own.std() if len(mine) > 1 else torch.inf
        if keep_emptied and mine:
            limit = min(limit, own.max())
        sure = [i for i in mine if p[i, c] >= limit]
        if not sure and keep_emptied:
            sure = [i for i, label in bank if label == c]
        kept += [(i, c) for i in sure]
    # With a patch a class at most, nothing differs from its mean.
    if len(kept) == len({c for _, c in kept}):
        return None
    return fit([(patches[i], c, p[i, c]) for i, c in kept])


def nearest(queries, keys, count):
    """Products and rows of each query's nearest keys; equal ones by their rows."""
    found = []
    for query in queries:
        products = [float((query * key).sum()) for key in keys]
        rows = sorted(range(len(keys)), key=lambda row: -products[row])[:count]
        found.append(([products[row] for row in rows], rows))
    return [one for one, _ in found], [rows for _, rows in found]


def unit_map(features, size):
    """A map, resized, and brought to unit length at each pixel."""
    return F.normalize(F.interpolate(features[None], size=size, mode='bilinear')[0], dim=0)


def region_means(maps, ids):
    """Mean of a map over each region, by its id."""
    return {one: maps[:, ids == one].mean(dim=1) for one in sorted(set(ids.flatten().tolist()))}


def sparc(single, simple, compound, member):
    """Final scores (n, C) of SPARC in NumPy, image by image and class by class, with an SVD."""

    def z(values):
        return (values - values.mean()) / values.std(ddof=1)

    single = np.apply_along_axis(z, 0, np.array([z(row) for row in single]))
    rows = [
        (row - names.mean()) / names.std(ddof=1)
        for row, names in zip(compound, simple, strict=True)
    ]
    compound = np.apply_along_axis(z, 0, np.array(rows)) if compound.shape[1] else compound
    final = np.empty_like(single)
    for label, mine in enumerate(member):
        values = [
            [*sorted(row[mine]), own] for row, own in zip(compound, single[:, label], strict=True)
        ]
        values = np.array(values)
        _, _, directions = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
        mean, own = directions[0].mean(), directions[0, -1]
        direction = directions[0] * np.sign(mean if abs(mean) > 1e-6 else own)
        final[:, label] = values @ (direction / abs(direction).sum())
    return (final + single) / 2


def neighbours(values, attention, factor, negative, highest):
    """Of :func:`mmtagclip.regions.sam.neighbours`: patch by patch and head by head."""
    heads, count, _ = values.shape

    def cosine(head, i, j):
        return F.cosine_similarity(values[head, i], values[head, j], dim=0)

    rows = []
    for i in range(count):
        similar = [cosine(head, i, j) for head in range(heads) for j in range(count)]
        threshold = factor * sum(similar) / len(similar)
        if negative is not None and threshold < 0:
            threshold = negative
        threshold = min(float(threshold), highest)
        row = torch.zeros(count)
        for head in range(heads):
            for j in range(count):
                if i == j or cosine(head, i, j) > threshold:
                    row[j] += attention[head, i, j] / heads
        rows.append(row / row.sum())
    return torch.stack(rows)


def splice(outputs, places, size):
    """Mean of maps ``(C, h, w)`` on a grid of ``size``, cell by cell; ``places`` in cells."""
    result = torch.zeros(len(outputs[0]), *size)
    for y in range(size[0]):
        for x in range(size[1]):
            seen = [
                one[:, y - top, x - left]
                for one, (top, left) in zip(outputs, places, strict=True)
                if 0 <= y - top < one.shape[1] and 0 <= x - left < one.shape[2]
            ]
            result[:, y, x] = torch.stack(seen).mean(dim=0)
    return result


def shortlist(visual, scale, text, coarse, maps, grid, image, foreground, count):
    """Scores (F,) and maps (F, N) of one image where only the best classes are refined."""
    best = sorted(range(foreground), key=lambda c: (-coarse[:, c].max().item(), c))[:count]
    chosen = sorted(best)
    columns = [*chosen, *range(foreground, coarse.shape[1])]
    refined = dmar(coarse[:, columns], maps, (8, 9, 10), 4, grid)
    # The softmax of a crop is over all names: the text of the chosen ones comes first.
    others = [c for c in range(coarse.shape[1]) if c not in chosen]
    again = cwr(
        visual,
        scale,
        text[chosen + others],
        refined,
        refined[:, :count].amax(0),
        grid,
        image,
        0.1,
        False,
    )
    scores, planes = torch.zeros(foreground), torch.zeros(foreground, len(coarse))
    for row, c in enumerate(chosen):
        scores[c], planes[c] = again[row], refined[:, row]
    return scores, planes


def map_correction(labels, regions, none):
    """The most frequent label of each region, one by one; the lowest of equally frequent ones."""
    corrected = labels.copy()
    for region in np.unique(regions):
        if region != none:
            here = regions == region
            corrected[here] = np.bincount(labels[here]).argmax()
    return corrected


def corrclip(visual, image, unit, grid, ids, merge, layers):
    """Features (N', D) of one image by CorrCLIP, before they get unit length; id 0 is no region.

    Args:
        visual: The tower.
        image: (1, 3, H, W).
        unit: (N', C') features of another model, of unit length.
        grid: Their grid (h', w').
        ids: (h', w') numpy.
        merge: Whether regions that are alike become one.
        layers: Blocks whose outputs are averaged.
    """
    patch = visual.patch_size[0]
    size = (image.shape[2] // patch, image.shape[3] // patch)
    ids = ids.ravel().copy()
    real = [one for one in np.unique(ids) if one]
    if merge and len(real) > 1:
        means = F.normalize(torch.stack([unit[ids == one].mean(0) for one in real]), dim=-1)
        cosines = means @ means.T
        name = list(range(1, len(real) + 1))
        for a in range(len(real)):
            for b in range(len(real)):
                if cosines.max() - cosines[a, b] <= 0.2:
                    name = [name[a] if one == name[b] else one for one in name]
        ids = np.select([ids == one for one in real], name, 0)
    similarity = unit @ unit.T
    mean = similarity.mean()
    attention = torch.zeros_like(similarity)
    for i in range(len(ids)):
        for j in range(len(ids)):
            free = ids[i] == 0 or ids[j] == 0
            if i == j or (similarity[i, j] > mean if free else ids[i] == ids[j]):
                attention[i, j] = (4 * similarity[i, j]).exp()
    attention = attention / attention.sum(1, keepdim=True)

    under = [
        (y * size[0] // grid[0]) * size[1] + x * size[1] // grid[1]
        for y in range(grid[0])
        for x in range(grid[1])
    ]
    coarse = np.array(
        [
            ids[(y * grid[0] // size[0]) * grid[1] + x * grid[1] // size[1]]
            for y in range(size[0])
            for x in range(size[1])
        ]
    )
    x = embed(visual, image, size)
    count = x.shape[1]
    values = list(np.unique(coarse))
    # All tokens in one walk: a mask keeps the region tokens to themselves.
    mask = torch.full((count + len(values),) * 2, -torch.inf)
    mask[:count, :count] = 0
    for row, value in enumerate(values, start=count):
        mask[row, 0] = 0
        mask[row, 1:count][torch.from_numpy(coarse == value)] = 0
    x = torch.cat([x, x[:, :1].expand(-1, len(values), -1)], dim=1)
    outputs = []
    for layer in visual.transformer.resblocks[:-1]:
        x, _ = block(layer, x, mask)
        outputs.append(x[:, :count])
    layer = visual.transformer.resblocks[-1]
    whole, _ = block(layer, x, mask)

    def gathered(tokens):
        _, _, v = heads(layer, tokens[0])
        square = v[:, 1:].permute(0, 2, 1).reshape(1, -1, *size)
        square = F.interpolate(square, size=grid, mode='bilinear', align_corners=False)
        return layer.attn.out_proj(attention @ square[0].flatten(1).T)

    earlier = torch.stack([outputs[index] for index in layers]).mean(0)
    regions = whole[0, [count + values.index(coarse[cell]) for cell in under]]
    streams = (gathered(x[:, :count]), 1.0), (gathered(earlier), 1.0), (regions, 0.5)
    return sum(weight * visual.ln_post(one) for one, weight in streams) @ visual.proj
