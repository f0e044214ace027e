from margincore.kernels.margin import MarginBook

table: object

def book_capsule(book: MarginBook) -> object: ...
