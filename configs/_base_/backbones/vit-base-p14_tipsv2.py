# Google DeepMind's TIPSv2 B/14 (Apache-2.0 and CC BY 4.0), from its files: put
# tips_v2_oss_b14_vision.npz, tips_v2_oss_b14_text.npz and tokenizer.model of
# https://github.com/google-deepmind/tips into the folder, or set model.encoder.checkpoint.
# 12 blocks.
backbone = dict(encoder=dict(model='TIPSv2-B-14', checkpoint='checkpoints/tipsv2-b14'))
