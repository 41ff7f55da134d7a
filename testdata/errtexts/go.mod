module errtexts

go 1.18
