// Go's x/crypto/ssh and pkg/sftp as a server; peer_servers.ts says what the arguments mean.
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"

	"github.com/creack/pty"
	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	hostKey := must(ssh.ParsePrivateKey(must(os.ReadFile(os.Args[1]))))
	user, _, _, _, err := ssh.ParseAuthorizedKey(must(os.ReadFile(os.Args[2])))
	must(user, err)
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if bytes.Equal(key.Marshal(), user.Marshal()) {
				return nil, nil
			}
			return nil, fmt.Errorf("another key")
		},
	}
	config.RekeyThreshold = must(strconv.ParseUint(os.Args[3], 10, 64))
	config.AddHostKey(hostKey)
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	for {
		go serve(must(listener.Accept()), config)
	}
}

func serve(socket net.Conn, config *ssh.ServerConfig) {
	connection, channels, requests, err := ssh.NewServerConn(socket, config)
	if err != nil {
		log.Print(err)
		return
	}
	go serveGlobal(connection, requests)
	for one := range channels {
		switch one.ChannelType() {
		case "session":
			if channel, requests, err := one.Accept(); err == nil {
				go serveSession(channel, requests)
			}
		case "direct-tcpip":
			go forwardLocal(one)
		default:
			one.Reject(ssh.UnknownChannelType, "unknown")
		}
	}
}

func serveSession(channel ssh.Channel, requests <-chan *ssh.Request) {
	var terminal *os.File
	var size pty.Winsize
	var name string
	for request := range requests {
		switch request.Type {
		case "pty-req":
			var wanted struct {
				Term                         string
				Columns, Rows, Width, Height uint32
				Modes                        string
			}
			must(0, ssh.Unmarshal(request.Payload, &wanted))
			name = wanted.Term
			size = pty.Winsize{Rows: uint16(wanted.Rows), Cols: uint16(wanted.Columns)}
			request.Reply(true, nil)
		case "window-change":
			var wanted struct{ Columns, Rows, Width, Height uint32 }
			must(0, ssh.Unmarshal(request.Payload, &wanted))
			pty.Setsize(terminal, &pty.Winsize{Rows: uint16(wanted.Rows), Cols: uint16(wanted.Columns)})
		case "exec":
			var wanted struct{ Command string }
			must(0, ssh.Unmarshal(request.Payload, &wanted))
			command := exec.Command("/bin/sh", "-c", wanted.Command)
			if name != "" {
				command.Env = append(os.Environ(), "TERM="+name)
				terminal = must(pty.StartWithSize(command, &size))
				go serveTerminal(channel, command, terminal)
			} else {
				go serveCommand(channel, command)
			}
			request.Reply(true, nil)
		case "subsystem":
			request.Reply(true, nil)
			go func() {
				server := must(sftp.NewServer(channel))
				server.Serve()
				end(channel, 0)
			}()
		default:
			request.Reply(false, nil)
		}
	}
}

func end(channel ssh.Channel, status int) {
	channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
	channel.Close()
}

func serveTerminal(channel ssh.Channel, command *exec.Cmd, terminal *os.File) {
	go io.Copy(terminal, channel)
	io.Copy(channel, terminal)
	command.Wait()
	end(channel, command.ProcessState.ExitCode())
}

func serveCommand(channel ssh.Channel, command *exec.Cmd) {
	input := must(command.StdinPipe())
	command.Stdout, command.Stderr = channel, channel.Stderr()
	must(0, command.Start())
	go func() {
		io.Copy(input, channel)
		input.Close()
	}()
	command.Wait()
	end(channel, command.ProcessState.ExitCode())
}

func join(channel ssh.Channel, connection *net.TCPConn) {
	var waiting sync.WaitGroup
	waiting.Add(2)
	go func() {
		io.Copy(connection, channel)
		connection.CloseWrite()
		waiting.Done()
	}()
	go func() {
		io.Copy(channel, connection)
		channel.CloseWrite()
		waiting.Done()
	}()
	waiting.Wait()
	channel.Close()
	connection.Close()
}

func forwardLocal(one ssh.NewChannel) {
	var wanted struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	must(0, ssh.Unmarshal(one.ExtraData(), &wanted))
	connection, err := net.Dial("tcp", net.JoinHostPort(wanted.Host, fmt.Sprint(wanted.Port)))
	if err != nil {
		one.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	channel, requests, err := one.Accept()
	if err == nil {
		go ssh.DiscardRequests(requests)
		join(channel, connection.(*net.TCPConn))
	}
}

type address struct {
	Host string
	Port uint32
}

func serveGlobal(connection *ssh.ServerConn, requests <-chan *ssh.Request) {
	listeners := map[address]net.Listener{}
	for request := range requests {
		var wanted address
		switch request.Type {
		case "tcpip-forward":
			must(0, ssh.Unmarshal(request.Payload, &wanted))
			listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(wanted.Port)))
			if err != nil {
				request.Reply(false, nil)
				continue
			}
			var reply []byte
			port := uint32(listener.Addr().(*net.TCPAddr).Port)
			if wanted.Port == 0 {
				reply = ssh.Marshal(struct{ Port uint32 }{port})
			}
			bound := address{wanted.Host, port}
			listeners[bound] = listener
			request.Reply(true, reply)
			go accept(connection, listener, bound)
		case "cancel-tcpip-forward":
			must(0, ssh.Unmarshal(request.Payload, &wanted))
			if listener, ok := listeners[wanted]; ok {
				listener.Close()
				delete(listeners, wanted)
			}
			request.Reply(true, nil)
		default:
			request.Reply(false, nil)
		}
	}
	for _, listener := range listeners {
		listener.Close()
	}
}

func accept(connection *ssh.ServerConn, listener net.Listener, bound address) {
	for {
		socket, err := listener.Accept()
		if err != nil {
			return
		}
		origin := socket.RemoteAddr().(*net.TCPAddr)
		channel, requests, err := connection.OpenChannel("forwarded-tcpip", ssh.Marshal(struct {
			Host       string
			Port       uint32
			OriginHost string
			OriginPort uint32
		}{bound.Host, bound.Port, origin.IP.String(), uint32(origin.Port)}))
		if err != nil {
			socket.Close()
			continue
		}
		go ssh.DiscardRequests(requests)
		go join(channel, socket.(*net.TCPConn))
	}
}
