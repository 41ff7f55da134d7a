module example.com/image

go 1.18
