//go:build ignore

// Writes ../builtin.txt, the table of signatures, from the source of Go itself:
//
//	go run generate.go 18=GOROOT 19=GOROOT … 27=GOROOT > ../builtin.txt
//
// with the GOROOT of each minor version, oldest first (GOTOOLCHAIN=go1.21.13 go
// env GOROOT gives one), run by the newest Go of them. With one word in place
// of the pairs, "list", it prints what the table is made of for its own GOROOT.
//
// Functions are named as pclntab names them, with the receiver as the first
// parameter; types are named with their package's name, as descriptors name
// them. Where versions differ there is a row for each variant, with the minor
// versions that it holds for behind an @.
package main

import (
	"fmt"
	"go/build"
	"go/importer"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"sort"
	"strings"
)

var packages = strings.Fields(`net internal/poll os syscall io bufio net/http crypto/tls database/sql context time`)

// Files whose functions nobody names.
func generated(file string) bool {
	return strings.Contains(file, "h2_bundle") || strings.Contains(file, "zerrors") || strings.Contains(file, "socks_bundle")
}

var needed = map[string]string{}

func name(p *types.Package) string {
	paths[p.Name()] = p.Path()
	return p.Name()
}

// Import paths of packages by name.
var paths = map[string]string{}

func write(t types.Type) string {
	need(t, true)
	return types.TypeString(types.Unalias(t), name)
}

// need notes the layout of the named types inside t that lie there by value.
func need(t types.Type, deep bool) {
	switch t := types.Unalias(t).(type) {
	case *types.Named:
		if t.Obj().Pkg() == nil || t.TypeParams().Len() > 0 && t.TypeArgs().Len() == 0 {
			return
		}
		key := types.TypeString(t, name)
		if _, ok := needed[key]; ok {
			return
		}
		needed[key] = ""
		needed[key] = layout(t.Underlying())
	case *types.Pointer, *types.Map, *types.Chan, *types.Signature:
	case *types.Slice:
		need(t.Elem(), false)
	case *types.Array:
		need(t.Elem(), deep)
	case *types.Struct:
		for i := range t.NumFields() {
			need(t.Field(i).Type(), deep)
		}
	}
}

// layout writes an underlying type with no more than calls need.
func layout(t types.Type) string {
	switch t := t.(type) {
	case *types.Interface:
		if t.NumMethods() == 0 {
			return "interface{}"
		}
		return "interface{M()}"
	case *types.Signature:
		return "func()"
	case *types.Struct:
		var fields []string
		for i := range t.NumFields() {
			f := t.Field(i)
			word := f.Name() + " "
			if f.Embedded() {
				word = "~" + word
			}
			fields = append(fields, word+part(f.Type()))
		}
		return "struct{" + strings.Join(fields, "; ") + "}"
	}
	return part(t)
}

func part(t types.Type) string {
	switch u := types.Unalias(t).(type) {
	case *types.Struct, *types.Interface, *types.Signature:
		return layout(u)
	}
	need(t, true)
	return types.TypeString(types.Unalias(t), name)
}

func tuple(t *types.Tuple, variadic bool) string {
	var out []string
	for i := range t.Len() {
		v := t.At(i)
		var text string
		if variadic && i == t.Len()-1 {
			need(v.Type(), true)
			if s, ok := v.Type().(*types.Slice); ok {
				text = "..." + types.TypeString(types.Unalias(s.Elem()), name)
			} else {
				text = write(v.Type())
			}
		} else if _, ok := types.Unalias(v.Type()).(*types.Signature); ok {
			text = "func()"
		} else {
			text = write(v.Type())
		}
		n := v.Name()
		if n == "" {
			n = "_"
		}
		out = append(out, n+" "+text)
	}
	return strings.Join(out, ", ")
}

// list gives the lines of one version: a key, the types alone, the declaration.
func list() []string {
	build.Default.CgoEnabled = false
	fset := token.NewFileSet()
	imp := importer.ForCompiler(fset, "source", nil).(types.ImporterFrom)
	var lines []string
	for _, path := range packages {
		pkg, err := imp.ImportFrom(path, "", 0)
		if err != nil {
			fmt.Fprintln(os.Stderr, path, err)
			os.Exit(1)
		}
		add := func(name string, f *types.Func, recv string) {
			if generated(fset.Position(f.Pos()).Filename) || f.Name() == "_" || f.Name() == "init" {
				return
			}
			s := f.Type().(*types.Signature)
			if s.TypeParams().Len() > 0 || s.RecvTypeParams().Len() > 0 {
				return
			}
			params := tuple(s.Params(), s.Variadic())
			if r := s.Recv(); r != nil {
				n := r.Name()
				if n == "" {
					n = "_"
				}
				self := n + " " + write(r.Type())
				if params != "" {
					self += ", "
				}
				params = self + params
			}
			results := tuple(s.Results(), false)
			if results != "" {
				results = " (" + results + ")"
			}
			// Names may change from version to version; what counts is types.
			plain := types.NewSignatureType(nil, nil, nil, unnamed(s.Recv(), s.Params()), unnamed(nil, s.Results()), s.Variadic())
			lines = append(lines, name+"\t"+types.TypeString(plain, (*types.Package).Name)+"\t"+name+"("+params+")"+results)
		}
		scope := pkg.Scope()
		for _, n := range scope.Names() {
			switch o := scope.Lookup(n).(type) {
			case *types.Func:
				add(path+"."+n, o, "")
			case *types.TypeName:
				named, ok := o.Type().(*types.Named)
				if !ok || o.IsAlias() {
					continue
				}
				if _, ok := named.Underlying().(*types.Interface); ok {
					continue
				}
				for i := range named.NumMethods() {
					m := named.Method(i)
					recv := m.Type().(*types.Signature).Recv().Type()
					full := path + "." + n + "." + m.Name()
					if _, ok := recv.(*types.Pointer); ok {
						full = path + ".(*" + n + ")." + m.Name()
					}
					add(full, m, n)
				}
			}
		}
	}
	for k, v := range needed {
		lines = append(lines, "type "+k+"\t"+v+"\ttype "+k+" = "+v)
	}
	for k, v := range paths {
		if k != v {
			lines = append(lines, "package "+k+"\t"+v+"\tpackage "+k+" = "+v)
		}
	}
	sort.Strings(lines)
	return lines
}

// unnamed gives the types alone, the receiver's first.
func unnamed(recv *types.Var, vars *types.Tuple) *types.Tuple {
	var out []*types.Var
	if recv != nil {
		out = append(out, types.NewParam(0, nil, "", recv.Type()))
	}
	for i := range vars.Len() {
		out = append(out, types.NewParam(0, nil, "", vars.At(i).Type()))
	}
	return types.NewTuple(out...)
}

// A variant of a declaration, and the versions that have it.
type variant struct {
	types, text string
	minors      []string
}

// span writes minor versions as ranges; the oldest and the newest are left out
// where the range is taken to go on.
func span(minors []string) string {
	var out []string
	for i := 0; i < len(minors); {
		j := i
		for j+1 < len(minors) && number(minors[j+1]) == number(minors[j])+1 {
			j++
		}
		first, last := minors[i], minors[j]
		if strings.HasPrefix(os.Args[1], first+"=") {
			first = ""
		}
		if strings.HasPrefix(os.Args[len(os.Args)-1], last+"=") {
			last = ""
		}
		out = append(out, first+"-"+last)
		i = j + 1
	}
	return strings.Join(out, ",")
}

func number(minor string) (n int) {
	fmt.Sscan(minor, &n)
	return n
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "list" {
		for _, line := range list() {
			fmt.Println(line)
		}
		return
	}
	rows := map[string][]*variant{}
	for _, arg := range os.Args[1:] {
		minor, root, _ := strings.Cut(arg, "=")
		cmd := exec.Command(os.Args[0], "list")
		cmd.Env = append(os.Environ(), "GOROOT="+root, "GOTOOLCHAIN=local")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			fmt.Fprintln(os.Stderr, arg, err)
			os.Exit(1)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			part := strings.Split(line, "\t")
			found := false
			for _, v := range rows[part[0]] {
				if v.types == part[1] {
					v.minors = append(v.minors, minor)
					v.text = part[2]
					found = true
				}
			}
			if !found {
				rows[part[0]] = append(rows[part[0]], &variant{part[1], part[2], []string{minor}})
			}
		}
	}
	var lines []string
	for _, variants := range rows {
		for _, v := range variants {
			if len(variants) > 1 {
				v.text += " @" + span(v.minors)
			}
			lines = append(lines, v.text)
		}
	}
	sort.Strings(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
}
