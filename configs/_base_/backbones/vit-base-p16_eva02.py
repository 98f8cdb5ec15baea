# EVA02's ViT-B/16 (MIT); rotary positions. 12 blocks.
backbone = dict(encoder=dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k'))
