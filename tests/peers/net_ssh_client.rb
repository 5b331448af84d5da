# Ruby's net-ssh and net-sftp as a client; peer_acts.ts says what the arguments mean.

require "digest"
require "net/sftp"
require "net/ssh"
require "socket"

$stdout.sync = true
name, host, port, username, key_file, known_hosts, *rest = ARGV

# Starts a command; the block gets the channel when it runs.
def start(session, command, result, terminal: nil)
  session.open_channel do |channel|
    if terminal
      channel.request_pty(terminal) { |_, success| abort "no terminal" unless success }
    end
    channel.on_request("exit-status") { |_, data| result[:status] = data.read_long }
    channel.exec(command) do |_, success|
      abort "the command is refused" unless success
      yield channel
    end
  end
end

def execute(session, command)
  result = {}
  start(session, command, result) do |channel|
    channel.on_data { |_, data| $stdout.write(data) }
    channel.on_extended_data { |_, _, data| $stderr.write(data) }
    channel.send_data($stdin.binmode.read)
    channel.eof!
  end
  session.loop
  result[:status]
end

def use_terminal(session, command)
  result = {}
  shown = +""
  terminal = { term: "xterm", chars_wide: 100, chars_high: 30 }
  start(session, command, result, terminal: terminal) do |channel|
    channel.on_data do |_, data|
      is_first = !shown.include?("\n")
      shown << data
      if is_first && shown.include?("\n")
        channel.send_channel_request("window-change", :long, 120, :long, 40, :long, 0, :long, 0)
        channel.send_data("go\n")
      end
    end
  end
  session.loop
  $stdout.write(shown)
  result[:status]
end

def transfer(session, folder)
  session.sftp.connect do |sftp|
    sftp.mkdir!("#{folder}/remote")
    sftp.upload!("#{folder}/file", "#{folder}/remote/file")
    sftp.rename!("#{folder}/remote/file", "#{folder}/remote/renamed")
    puts sftp.dir.entries("#{folder}/remote").map(&:name).join(" ")
    sftp.download!("#{folder}/remote/renamed", "#{folder}/back")
    begin
      sftp.remove!("#{folder}/remote/missing")
    rescue Net::SFTP::StatusException => error
      puts "missing" if error.code == 2
    end
    sftp.close_channel
  end
  session.loop
  0
end

def forward_local(session, to)
  session.open_channel("direct-tcpip", :string, "127.0.0.1", :long, to.to_i,
                       :string, "127.0.0.1", :long, 0) do |channel|
    channel.on_data { |_, data| $stdout.write(data) }
    channel.on_eof { |one| one.close }
    channel.send_data($stdin.binmode.read)
    channel.eof!
  end
  session.loop
  0
end

def forward_remote(session, to)
  session.forward.remote(to.to_i, "127.0.0.1", 0, "127.0.0.1") do |bound|
    puts "port #{bound}"
    :no_exception
  end
  is_over = false
  Thread.new { $stdin.read; is_over = true }
  session.loop(0.05) { !is_over }
  exit!(0)
end

def run_ten(session)
  results = Array.new(10) { { output: Digest::SHA256.new } }
  started = []
  results.each_with_index do |result, number|
    start(session, "cat; exit #{number}", result) do |channel|
      channel.on_data { |_, data| result[:output] << data }
      started << [channel, number]
      next unless started.size == 10
      started.each do |one, its_number|
        one.send_data(its_number.to_s * 20_000)
        one.eof!
      end
    end
  end
  session.loop
  results.each_with_index do |result, number|
    puts "#{number} #{result[:status]} #{result[:output].hexdigest}"
  end
  0
end

options = {
  port: port.to_i, keys: [key_file], keys_only: true, config: false, use_agent: false,
  non_interactive: true, verify_host_key: :always, user_known_hosts_file: known_hosts,
  global_known_hosts_file: [], auth_methods: ["publickey"]
}
options[:rekey_limit] = 1_000_000 if name == "rekey"
session = Net::SSH.start(host, username, options)
status =
  case name
  when "exec", "rekey" then execute(session, *rest)
  when "terminal" then use_terminal(session, *rest)
  when "sftp" then transfer(session, *rest)
  when "local" then forward_local(session, *rest)
  when "remote" then forward_remote(session, *rest)
  when "ten" then run_ten(session)
  end
exit!(status)
