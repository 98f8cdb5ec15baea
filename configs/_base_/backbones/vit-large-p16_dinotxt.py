# Meta's dino.txt of DINOv3 L/16, from its files. Backbone and text tower stand under the DINOv3
# License, an agreement of its own with terms on use and on passing it on:
# https://github.com/facebookresearch/dinov3/blob/main/LICENSE.md. Ask Meta for the files, and put
# dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth and
# dinov3_vitl16_dinotxt_vision_head_and_text_encoder-a442d8f5.pth into the folder, or set
# model.encoder.checkpoint. 24 blocks of the backbone and 2 behind it.
backbone = dict(encoder=dict(model='dinotxt-L-16', checkpoint='checkpoints/dinotxt-l16'))
