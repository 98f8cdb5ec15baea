# The baseline: plain CLIP's class token.
_base_ = './tagclip.py'
model = dict(head=dict(_delete_=True, type='mmtagclip.ClassTokenHead'))
