_base_ = './tagclip_demo.py'
# The baseline: plain CLIP's class token.
model = dict(head=dict(_delete_=True, type='mmtagclip.ClassTokenHead'))
