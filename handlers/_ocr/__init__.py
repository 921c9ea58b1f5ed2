"""How a document becomes text: the parts behind the `ocr` handler.

source ──fetch──▶ Document ──open──▶ pages ──render──▶ PageImage ──engine──▶ Reading ──▶ text with offsets

- `payload`, `settings`: what a job may ask and what an operator may allow; pydantic only, cheap to import
- `sources`: get the bytes, under every limit that does not need a decoder
- `pdf`, `images`: pages of a document; each page's size is checked before anything of it is decoded
- `engines`: which program reads the pages; `tesseract` and `rapid` are the programs
- `pages`: reads one page: rotation, deskew, confidence, warnings
- `report`: the result document

Only `payload` and `settings` are imported with the handler. The others need Pillow or pypdfium2.
"""
