// Holds a value of every kind in package-level variables, prints each as Go
// prints it, and waits until its standard input ends. The program's own bytes,
// read from outside, must give the same text.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"
)

type T struct {
	A int
	B string
}

type Deep struct {
	T
	P *T
	L []T
	M map[string]int
	I any
	E error
	F func(int) int
	C chan int
	x [2]bool
}

type Kind int8

type Big struct {
	A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R int
}

type ring struct {
	Next *ring
	Any  any
}

type wide struct {
	Pad [3000]int64
}

type pointerShaped struct{ P *T }

// Initialised data: the file's own bytes say what they are.
var (
	Bool      = true
	Int       = -42
	Int8      = int8(-8)
	Int16     = int16(-1600)
	Int32     = int32(1 << 30)
	Int64     = int64(-1 << 63)
	Uint      = uint(7)
	Uint8     = uint8(255)
	Uint64    = uint64(1<<64 - 1)
	Uintptr   = uintptr(4096)
	Float32   = float32(0.1)
	Float64   = 1234567.25
	Small     = 1e-7
	Complex   = complex(1.5, -2)
	Complex64 = complex64(complex(0.1, 2))
	String    = "héllo\n\t\"x\"\x00\xff"
	Empty     = ""
	Named     = Kind(3)
	Struct    = T{1, "x"}
	Nested    = Deep{T: T{1, "a"}, x: [2]bool{true, false}}
	Array     = [3]int{1, 2, 3}
	Slice     = []int{1, 2, 3}
	Strings   = []string{"a", "", "c d"}
	Structs   = []T{{1, "a"}, {2, "b"}}
	NilSlice  []int
	NilMap    map[string]int
	NilFunc   func()
	NilAny    any
	NilError  error
	NilPtr    *T
	NilChan   chan int
	Pointer                = &T{5, "five"}
	PtrPtr                 = &Pointer
	IntPtr                 = new(int)
	AnyInt    any          = 5
	AnyString any          = "s"
	AnyKind   any          = Kind(4)
	AnyStruct any          = T{6, "six"}
	AnyPtr    any          = &T{7, "seven"}
	AnyDirect any          = pointerShaped{&T{8, "eight"}}
	AnySlice  any          = []string{"q"}
	Stringer  fmt.Stringer = time.Second
	Direct                 = pointerShaped{}
	Matrix                 = [2][2]float64{{1, 2}, {3, 4.5}}
	Anonymous              = struct {
		X int
		Y []string
	}{1, []string{"z"}}
)

// Made when the program starts.
var (
	Map       = map[string]int{"one": 1, "two": 2, "three": 3}
	MapInt    = map[int]T{1: {1, "x"}, -2: {2, "y"}}
	MapEmpty  = map[string]string{}
	MapSet    = map[int32]struct{}{4: {}, 5: {}}
	MapBool   = map[bool][]string{true: {"a"}}
	MapByte   = map[byte]uint16{1: 2, 3: 4}
	MapWide   = map[int]wide{9: {}}
	MapBig    = map[int]string{}
	MapGrown  = map[string]int{}
	Bytes     = []byte("GET / HTTP/1.1\r\n")
	Duration  = 1500 * time.Millisecond
	Minutes   = 90*time.Minute + 30*time.Millisecond
	Time      = time.Date(2026, 11, 22, 15, 47, 2, 123456789, time.UTC)
	Now       = time.Now()
	ZeroTime  time.Time
	IP                 = net.ParseIP("10.1.2.3")
	IP6                = net.ParseIP("2001:db8::1")
	MAC                = net.HardwareAddr{0, 0x1b, 0x2c, 3, 4, 5}
	TCPAddr            = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	TCPAddr6           = &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 53, Zone: "eth0"}
	UDPAddr   net.Addr = &net.UDPAddr{IP: net.IPv4zero, Port: 5353}
	AnyPort            = &net.TCPAddr{Port: 80}
	UnixAddr           = &net.UnixAddr{Name: "/run/x.sock", Net: "unix"}
	Netip              = netip.MustParseAddr("192.0.2.7")
	Netip6             = netip.MustParseAddr("2001:db8::7")
	NetipZero netip.Addr
	AddrPort  = netip.MustParseAddrPort("[2001:db8::8]:443")
	AddrPort4 = netip.MustParseAddrPort("192.0.2.8:443")
	Chan      = make(chan int, 4)
	Error     = errors.New("broken\x1b[2J")
	Func      = named
	Cycle     = &ring{}
	TooMany   = Big{A: 1, P: 16, R: 18}
	Long      = make([]int, 100)
	LongText  = string(make([]byte, 1000))
)

func named() {}

func main() {
	*IntPtr = 9
	Chan <- 1
	Cycle.Next = Cycle
	Cycle.Any = Cycle
	for i := 0; i < 1000; i++ {
		MapBig[i] = fmt.Sprint(i)
	}
	for i := 0; i < 100; i++ {
		MapGrown[fmt.Sprint(i)] = i
	}
	for i := 0; i < 100; i++ {
		if i != 50 {
			delete(MapGrown, fmt.Sprint(i))
		}
	}

	exact := func(name string, v any) { fmt.Printf("%s\t%#v\n", name, v) }
	plain := func(name string, v any) { fmt.Printf("%s\t%v\n", name, v) }
	exact("Bool", Bool)
	exact("Int", Int)
	exact("Int8", Int8)
	exact("Int16", Int16)
	exact("Int32", Int32)
	exact("Int64", Int64)
	plain("Uint", Uint)
	plain("Uint8", Uint8)
	plain("Uint64", Uint64)
	plain("Uintptr", Uintptr)
	exact("Float32", Float32)
	exact("Float64", Float64)
	exact("Small", Small)
	exact("Complex", Complex)
	exact("Complex64", Complex64)
	exact("String", String)
	exact("Empty", Empty)
	exact("Named", Named)
	exact("Struct", Struct)
	exact("Array", Array)
	exact("Slice", Slice)
	exact("Strings", Strings)
	exact("Structs", Structs)
	exact("Pointer", Pointer)
	exact("AnyInt", AnyInt)
	exact("AnyString", AnyString)
	exact("AnyStruct", AnyStruct)
	exact("AnyPtr", AnyPtr)
	exact("AnySlice", AnySlice)
	exact("Matrix", Matrix)
	exact("Anonymous", Anonymous)
	exact("Map", map[string]int{"one": 1, "three": 3, "two": 2})
	exact("MapInt", MapInt)
	exact("MapEmpty", MapEmpty)
	exact("MapSet", MapSet)
	plain("Stringer", Stringer)
	plain("Duration", Duration)
	plain("Minutes", Minutes)
	plain("Time", Time.Format(time.RFC3339Nano))
	plain("Now", Now.UTC().Format(time.RFC3339Nano))
	plain("ZeroTime", ZeroTime.Format(time.RFC3339Nano))
	for name, v := range map[string]any{
		"IP": IP, "IP6": IP6, "MAC": MAC, "TCPAddr": TCPAddr, "TCPAddr6": TCPAddr6,
		"UDPAddr": UDPAddr, "AnyPort": AnyPort, "UnixAddr": UnixAddr, "Netip": Netip, "Netip6": Netip6,
		"NetipZero": NetipZero, "AddrPort": AddrPort, "AddrPort4": AddrPort4,
	} {
		plain(name, v)
	}
	fmt.Printf("PtrPtr\t&(*main.T)(%p)\n", Pointer)
	fmt.Printf("AnyDirect\tmain.pointerShaped{P:&main.T{A:8, B:\"eight\"}}\n")
	fmt.Printf("Cycle\t&main.ring{Next:(*main.ring)(%p), Any:(*main.ring)(%p)}\n", Cycle, Cycle)
	fmt.Printf("Chan\t(chan int)(%p) len 1/4\n", Chan)
	fmt.Println("end\t")
	os.Stdout.Sync()
	io.Copy(io.Discard, os.Stdin)
	// The linker keeps what is used.
	runtime.KeepAlive([]any{
		&Bool, &Int, &Int8, &Int16, &Int32, &Int64, &Uint, &Uint8,
		&Uint64, &Uintptr, &Float32, &Float64, &Small, &Complex, &Complex64, &String,
		&Empty, &Named, &Struct, &Nested, &Array, &Slice, &Strings, &Structs,
		&NilSlice, &NilMap, &NilFunc, &NilAny, &NilError, &NilPtr, &NilChan, &Pointer, &PtrPtr,
		&IntPtr, &AnyInt, &AnyString, &AnyKind, &AnyStruct, &AnyPtr, &AnyDirect, &Direct, &AnySlice,
		&Stringer, &Matrix, &Anonymous, &Map, &MapInt, &MapEmpty, &MapSet, &MapBool,
		&MapByte, &MapWide, &MapBig, &MapGrown, &Bytes, &Duration, &Minutes, &Time,
		&Now, &ZeroTime, &IP, &IP6, &MAC, &TCPAddr, &TCPAddr6, &UDPAddr,
		&AnyPort, &UnixAddr, &Netip, &Netip6, &NetipZero, &AddrPort, &AddrPort4, &Chan,
		&Error, &Func, &Cycle, &TooMany, &Long, &LongText,
	})
}
